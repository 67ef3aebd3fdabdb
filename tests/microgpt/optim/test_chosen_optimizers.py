"""What ``--inner-optimizer`` and ``--outer-optimizer`` take from the run's flags."""

from __future__ import annotations

import pytest

from microgpt.optim.adam import AdamConfig
from microgpt.optim.adam_optimizer import Adam
from microgpt.optim.adamw import AdamW
from microgpt.optim.nesterov import Nesterov
from microgpt.optim.optimizer import Optimizer
from microgpt.optim.registry import optimizer_of

FLAGS = AdamConfig(0.02, 0.8, 0.9, 1e-6)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("adam", Adam(0.02, 0.8, 0.9, 1e-6)),
        ("adam:0.5", Adam(0.5, 0.8, 0.9, 1e-6)),
        ("adam:beta1=0.5,eps=0.1", Adam(0.02, 0.5, 0.9, 0.1)),
        ("adamw", AdamW(learning_rate=0.02, beta1=0.8, beta2=0.9, eps=1e-6)),
        ("nesterov", Nesterov()),
        ("nesterov:0.3", Nesterov(learning_rate=0.3)),
    ],
)
def test_adam_and_adamw_take_what_they_are_not_told(spec: str, expected: Optimizer) -> None:
    assert optimizer_of(spec, FLAGS) == expected

"""The list of promises, which needs no NumPy, says what the strategies say."""

from __future__ import annotations

from microgpt.strategies.promises import PROMISES
from microgpt.strategies.registry import STRATEGIES


def test_the_list_has_every_strategy_with_what_it_promises() -> None:
    assert {name: kind().promise for name, kind in STRATEGIES.items()} == PROMISES

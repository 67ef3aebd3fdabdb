"""What an experiment may set: names, types, and what holds where nothing is said. Pure.

The names are those of the flags of ``scripts/train.py``, with underscores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lab.conditions import OnFailure

#: A setting's value as the file has it, made one of its type. Raises ValueError.
Check: TypeAlias = Callable[[Any], Any]
MAX_WORKERS = 4096
MAX_TEXTS = 4096  # conditions of one kind


def whole(least: int, most: int = 10**15) -> Check:
    """A whole number in these bounds."""

    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            bounds = f"from {least} to {most:,}" if most < 10**15 else f"of at least {least}"
            raise ValueError(f"must be a whole number {bounds}, not {shown(value)}")
        return value

    return check


def number(least: float = -math.inf, most: float = math.inf) -> Check:
    """A finite number in these bounds."""

    def check(value: Any) -> float:
        good = type(value) in (int, float) and math.isfinite(value) and least <= value <= most
        if not good:
            low = "" if math.isinf(least) else f" of at least {least:g}"
            high = "" if math.isinf(most) else f" and at most {most:g}"
            raise ValueError(f"must be a number{low}{high}, not {shown(value)}")
        return float(value)

    return check


def text(value: Any) -> str:
    """A text of one line."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"must be a text, not {shown(value)}")
    return value


def one_of(*choices: str) -> Check:
    """One of these texts."""

    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {shown(value)}")
        return str(value)

    return check


def boolean(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise ValueError(f"must be true or false, not {shown(value)}")
    return value


def texts(value: Any) -> list[str]:
    """A text, or several in an array."""
    several = value if isinstance(value, list) else [value]
    if len(several) > MAX_TEXTS:
        raise ValueError(f"must be at most {MAX_TEXTS:,} texts")
    return [text(one) for one in several]


def options(value: Any) -> dict[str, Any]:
    """A table of numbers, truths and texts."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table such as {{ steps = 8 }}, not {shown(value)}")
    for key, one in value.items():
        if type(one) not in (int, float, bool, str):
            raise ValueError(f"{key} must be a number, a text, true or false, not {shown(one)}")
    return dict(value)


def text_of(value: Any) -> str:
    """A setting as a label: what people call the case."""
    if isinstance(value, list):
        return " ".join(map(text_of, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value) or "none"


def shown(value: Any) -> str:
    """A wrong value, in a length that a line has room for."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 50 else f"{text[:47]}..."


#: Each setting, its type, and its value where the file does not say any. Those that decide bits
#: have the defaults of ``scripts/train.py``; some documents are held out, to have a loss to reach.
SETTINGS: dict[str, tuple[Check, Any]] = {
    "data": (text, "embedded"),
    "steps": (whole(1), 200),
    "workers": (whole(1, MAX_WORKERS), 2),
    "batch_size": (whole(1), 32),
    "n_layer": (whole(1), 1),
    "n_embd": (whole(1), 16),
    "n_head": (whole(1), 4),
    "block_size": (whole(1), 16),
    "learning_rate": (number(0.0), 0.01),
    "beta1": (number(0.0), 0.85),
    "beta2": (number(0.0), 0.99),
    "eps": (number(0.0), 1e-8),
    "validation_fraction": (number(0.0, 0.99), 0.1),
    "eval_every": (whole(1), 20),
    "engine": (one_of("tape", "scalar"), "tape"),
    "checkpoint_every": (whole(1), 100),
    "snapshot_every": (whole(0), 0),
    "strategy": (text, "sync"),
    "strategy_options": (options, {}),
    "replicas": (whole(0, 4096), 0),
    "aggregate": (text, "mean"),
    "compress": (text, ""),
    "error_feedback": (boolean, None),
    "inner_optimizer": (text, ""),
    "outer_optimizer": (text, ""),
    "shard_by": (one_of("random", "length", "first-letter"), ""),
    "verify_fraction": (number(0.0, 1.0), 0.0),
    "link": (texts, []),
    "slow": (texts, []),
    "fail": (texts, []),
    "byzantine": (texts, []),
    "on_failure": (one_of(*OnFailure), OnFailure.REPLACE.value),
    "repeat": (whole(0, 10**6), 0),
}
CONDITIONS = ("link", "slow", "fail", "byzantine")
#: Settings that may be ``FILE.py:Class``: the file lies beside that of the experiment.
OWN_CODE = ("strategy", "aggregate", "compress", "inner_optimizer", "outer_optimizer")
DEFAULTS: Mapping[str, Any] = {name: value for name, (_, value) in SETTINGS.items()}

"""What the engine takes on this machine, for a simulation: measured once for all its results.

It is processor time, which others on the same machine do not lengthen as they do the time of day.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.experiments.checks import LETTERS
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import load_dataset
from microgpt.engine import make_engine
from microgpt.model import GPTConfig
from microgpt.training import initial_state

FILE = "pace.json"
MANY = 32  # documents of a call
REPEATS = 15
LEAST_SECONDS = 0.005  # of a repeat, so that the clock's grain does not count
SHAPE = ("n_layer", "n_embd", "n_head", "block_size", "engine")


def key_of(settings: Any) -> str:
    """What the pace depends on, as a text."""
    return " ".join(f"{name}={settings[name]}" for name in SHAPE)


def measure(settings: Any) -> tuple[float, float]:
    """Microseconds for a call of the engine, and for each document in it.

    Both are from the medians of calls with one document and with many: with a call of n documents
    taking ``call + n * document``.
    """
    shape = {name: settings[name] for name in SHAPE if name != "engine"}
    corpus = Corpus(load_dataset("embedded").documents, 42, 0.0)
    config = TrainingConfig(GPTConfig(LETTERS, **shape), batch_size=MANY)
    engine = make_engine(settings["engine"], config.model)
    params = initial_state(config, corpus).params
    documents = corpus.training.cyclic(0, MANY)
    one_by_one = [documents[at : at + 1] for at in range(MANY)]
    few = _median(lambda: [engine.gradients(params, one) for one in one_by_one]) / MANY
    many = _median(lambda: engine.gradients(params, documents))
    document = max(0.0, (many - few) / (MANY - 1))
    return round(1e6 * max(0.0, few - document), 2), round(1e6 * document, 3)


def _median(call: Callable[[], object]) -> float:
    """Processor seconds of a call: the median of repeats."""
    call()
    times = []
    for _ in range(REPEATS):
        began, calls = time.process_time(), 0
        while time.process_time() - began < LEAST_SECONDS or calls == 0:
            call()
            calls += 1
        times.append((time.process_time() - began) / calls)
    return statistics.median(times)


def read(folder: Path) -> dict[str, tuple[float, float]]:
    """What was measured before for this folder, by ``key_of``."""
    try:
        plain = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return {str(key): (float(call), float(document)) for key, (call, document) in plain.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def to_json(known: Mapping[str, tuple[float, float]]) -> str:
    """The text of the file."""
    return json.dumps(known, indent=1) + "\n"

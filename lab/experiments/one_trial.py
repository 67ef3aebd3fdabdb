"""One simulated run in a process of its own: ``python -m lab.experiments.one_trial DIRECTORY``.

It finds ``trial.json`` there and leaves ``result.json``. It ends when whoever has started it does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from microgpt.support import signals

TRIAL, RESULT = "trial.json", "result.json"
PARENT_POLL_SECONDS = 0.5


def main(directory: Path) -> None:
    """Run the trial of a directory and write down what it has shown."""
    from lab.experiments.measurement import Measurement
    from microgpt.support.atomic import write_atomically

    began = time.monotonic()
    plain = json.loads((directory / TRIAL).read_text(encoding="utf-8"))
    found = _measure(plain, directory)
    whole = {**vars(found), "wall": time.monotonic() - began}
    write_atomically(directory / RESULT, Measurement(**whole).to_json().encode())


def _measure(plain: dict[str, Any], directory: Path) -> Any:
    from lab.experiments import kept_weights, virtual
    from lab.experiments.checks import WRONG, located, prepare
    from lab.experiments.measurement import FAILED, Measurement
    from lab.experiments.one_machine_costs import from_plain
    from lab.experiments.simulation import Simulation
    from microgpt.data.corpus import Corpus
    from microgpt.data.dataset import load_dataset
    from microgpt.data.documents import DatasetError
    from microgpt.support.user_class import OwnCodeError

    settings, seed = plain["settings"], plain["seed"]
    folder = Path(plain["folder"])
    try:
        dataset = load_dataset(located(settings, folder)["data"])
        corpus = Corpus(dataset.documents, seed, settings["validation_fraction"])
        prepared = prepare(settings, seed, corpus.tokenizer.vocab_size, folder)
        simulation = Simulation(**plain["simulation"])
        if simulation.one_machine:
            machine = from_plain(plain["simulation"]["machine"])
            simulation = replace(simulation, machine=machine)
        keep = kept_weights.keeping(directory) if plain.get("weights") else kept_weights.forget
        return virtual.run(prepared, settings["workers"], settings, simulation, corpus, keep)
    except (DatasetError, OwnCodeError, *WRONG) as error:
        return Measurement(FAILED, str(error))


def _end_with(parent: int) -> None:
    """Nobody waits for the result once the process is gone that wants it."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    signals.leave_quietly()
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    main(Path(sys.argv[1]))

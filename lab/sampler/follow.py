"""Samples of a run that trains, anew for each of its checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from lab.remote.fetch import call, follow
from lab.sampler.options import Options
from lab.sampler.source import Source
from lab.terminal import to_json
from microgpt.checkpoint.format import Checkpoint


def followed(options: Options) -> Iterator[Source]:
    """A source for the newest checkpoint, then for each newer one, with a heading printed before.

    Until the coordinator ends. Raises CheckpointError, UserError and ValueError.
    """
    with call(options.checkpoint, options.curve) as line:
        for loaded in follow(line):
            source = Source(options, loaded)
            print(heading(loaded, options.json), flush=True)
            yield source
    print(f"no coordinator at {options.checkpoint} any more", file=sys.stderr)


def heading(loaded: Checkpoint, as_json: bool) -> str:
    """The step and its losses in a line."""
    loss = loaded.losses[-1] if loaded.losses else None
    held_out = loaded.validation.loss if loaded.validation else None
    if as_json:
        return to_json({"step": loaded.step, "loss": loss, "validation_loss": held_out})
    named = (("loss", loss), ("validation loss", held_out))
    losses = [f"{name} {value:.4f}" for name, value in named if value is not None]
    return " | ".join([f"step {loaded.step}", *losses])

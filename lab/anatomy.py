"""Lay a document open: ``microgpt anatomy runs/latest emma``.

What the model makes of each letter and what that costs, where its heads look, and in which matrices
the gradient is that a worker would send. Needs msgpack alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.sampler.show import EMPTY, END, explanation
from lab.terminal import VERSION, complain, run, to_json, visible, warn
from microgpt.anatomy import MOST_WORK, Anatomy, Position, dissect, work
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem
from microgpt.checkpoint.format import load as load_file
from microgpt.checkpoint.newest import load_newest, step_path
from microgpt.explain import Letter
from microgpt.sampling import generate
from microgpt.tokenizer import Tokenizer

LIKELIEST = 4  # tokens that are named
BAR = 30  # columns of the longest bar


def main(arguments: list[str] | None = None) -> int:
    """Print the anatomy. Returns the exit code: 1 with one line on stderr for what is wrong."""
    given = _parser().parse_args(arguments)
    try:
        loaded = load(Path(given.checkpoint), given.step)
        document = invented(loaded) if given.document is None else given.document
        found = look(loaded, document)
    except (CheckpointError, UnfitDocumentError) as error:
        return complain(str(error))
    if given.json:
        print(to_json(plain(loaded, document, found)))
    else:
        print("\n".join(described(loaded, document, found, given.per_head)))
    return 0


class UnfitDocumentError(ValueError):
    """The model can make nothing of a document; the message is one sentence."""


OVERFLOW = "the model's numbers overflow: its weights are of no use"


def load(path: Path, step: int | None) -> Checkpoint:
    """The checkpoint of a file, or of a run: that of a step, or the newest. Raises CheckpointError.

    A step's file counts only up to the newest checkpoint: later ones were left by a run that has
    been resumed from an older one since.
    """
    if step is None:
        return load_newest(path, report=warn)
    if not path.is_dir():
        raise CheckpointError(f"--step is for run directories: {path} is none")
    newest = load_newest(path, report=warn)
    if newest.step == step:
        return newest
    file = step_path(path, step)
    if step > newest.step or not file.exists():
        raise CheckpointError(f"{path} has no checkpoint of step {step}", Problem.MISSING)
    return load_file(file)


def invented(loaded: Checkpoint) -> str:
    """The first document that the model invents, as ``microgpt sample`` would print it."""
    model, tokenizer = loaded.training.model, loaded.tokenizer
    try:
        samples = generate(loaded.state_dict(), model, tokenizer, loaded.rng(), num_samples=1)
        return next(samples)
    except (ArithmeticError, ValueError) as error:
        raise UnfitDocumentError(OVERFLOW) from error


def look(loaded: Checkpoint, document: str) -> Anatomy:
    """The anatomy, with gradients if they do not take long. Raises UnfitDocumentError."""
    model = loaded.training.model
    affordable = work(model, document) <= MOST_WORK
    try:
        loaded.tokenizer.encode_text(document)
    except ValueError as error:
        raise UnfitDocumentError(str(error)) from error
    try:
        return dissect(loaded.state_dict(), model, loaded.tokenizer, document, affordable)
    except (ArithmeticError, ValueError) as error:
        raise UnfitDocumentError(OVERFLOW) from error


def plain(loaded: Checkpoint, document: str, found: Anatomy) -> dict[str, Any]:
    """What ``--json`` prints and the page draws.

    ``vocabulary`` names the tokens by their ids; the last one, null, begins and ends documents.
    """
    gradients = found.gradients
    return {
        "step": loaded.step,
        "document": document,
        "cut": found.cut,
        "model": loaded.training.model.to_dict(),
        "vocabulary": [*loaded.tokenizer.chars, None],
        "loss": found.loss,
        "parts": found.parts,
        "positions": [
            {
                "token": seen.token,
                "target": seen.target,
                "probabilities": seen.probabilities,
                "rank": seen.rank,
                "loss": seen.loss,
                "attention": seen.attention,
                "norms": seen.norms,
            }
            for seen in found.positions
        ],
        "gradient_norm": found.gradient_norm,
        "gradients": None if gradients is None else [vars(tensor) for tensor in gradients],
    }


# --- for people ----------------------------------------------------------------------------------


def described(loaded: Checkpoint, document: str, found: Anatomy, per_head: bool) -> list[str]:
    """The anatomy as lines for a terminal."""
    name = _namer(loaded.tokenizer)
    letters = [
        Letter(None if p.target == loaded.tokenizer.bos else name(p.target),
               p.probability, p.rank, p.attention)
        for p in found.positions
    ]  # fmt: skip
    many = len(found.positions)
    cut = "; the document is longer than the context, and its end cut off" if found.cut else ""
    loss = f"a loss of {found.loss:.4f} nats per token over {many} positions"
    return [
        f"step {loaded.step:,}, {visible(document) or EMPTY}: {loss}{cut}",
        "",
        *_table(found.positions, name),
        "",
        *explanation(letters, per_head),
        "",
        *_norms(found),
        "",
        *_gradients(found),
    ]


def _namer(tokenizer: Tokenizer) -> Any:
    return lambda token: END if token == tokenizer.bos else visible(tokenizer.decode([token]))


def _table(positions: Sequence[Position], name: Any) -> list[str]:
    """A row per position: what was read, what comes, and what the model expected instead."""
    highest = max(position.loss for position in positions) or 1.0
    lines = [f"  {'read':>6} {'next':>6} {'loss':>8}  {'':{BAR}}  likeliest"]
    for position in positions:
        order = sorted(range(len(position.probabilities)), key=lambda t: -position.probabilities[t])
        likeliest = "  ".join(
            f"{name(token)} {100 * position.probabilities[token]:.1f}%"
            for token in order[:LIKELIEST]
        )
        read = "^" if position is positions[0] else name(position.token)
        lines.append(
            f"  {read:>6} {name(position.target):>6} {position.loss:8.4f}  "
            f"{_bar(position.loss / highest):{BAR}}  {likeliest}"
        )
    return lines


def _norms(found: Anatomy) -> list[str]:
    """How long the hidden state is after each part, over the positions."""
    width = max(map(len, found.parts))
    lines = [f"  {'':{width}}  hidden state: shortest and longest over the positions"]
    for at, part in enumerate(found.parts):
        norms = [position.norms[at] for position in found.positions]
        lines.append(f"  {part:{width}}  {min(norms):8.3f} {max(norms):8.3f}")
    return lines


def _gradients(found: Anatomy) -> list[str]:
    if found.gradients is None:
        return ["  no gradients: this model and document are too large for plain Python"]
    width = max(len(tensor.name) for tensor in found.gradients)
    lines = [
        f"  {'':{width}}  {'gradient':>9} {'share':>6}  its length is {found.gradient_norm:.4f}"
    ]
    for tensor in found.gradients:
        lines.append(
            f"  {tensor.name:{width}}  {tensor.norm:9.5f} {100 * tensor.share:5.1f}%  "
            f"{_bar(tensor.share)}".rstrip()
        )
    return lines


def _bar(share: float) -> str:
    return "#" * round(BAR * share)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Show how a document goes through a model, token by token: what comes next "
        "how likely, the loss, where heads look, and the gradient of each matrix.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", help="a file, or a run directory such as runs/latest")
    parser.add_argument(
        "document",
        nargs="?",
        help="such as emma; a longer one than the context is cut (default: one that it invents)",
    )
    parser.add_argument("--step", type=int, help="of the run's checkpoint (default: the newest)")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--json", action="store_true", help="all numbers, as one JSON object")
    parser.add_argument(
        "--per-head", action="store_true", help="the attention of each head, not their mean"
    )
    return parser


if __name__ == "__main__":
    run(main)

"""Invent documents with a trained model: ``python scripts/sample.py checkpoint.msgpack``.

Or with one that is being trained: ``python scripts/sample.py tcp://HOST:5555 --follow``.
"""

from __future__ import annotations

from lab.sampler.follow import followed
from lab.sampler.interactive import interact
from lab.sampler.options import parse
from lab.sampler.show import explanation, sample_json, sample_line
from lab.sampler.source import Source
from lab.terminal import UserError, complain
from microgpt.checkpoint.format import CheckpointError
from microgpt.sampling import ExhaustedError


def main(arguments: list[str] | None = None) -> int:
    """Print the samples. Returns the exit code: 1 with one line on stderr for whatever is wrong."""
    options = parse(arguments)
    try:
        for source in followed(options) if options.follow else [Source(options)]:
            code = present(source)
            if code:
                return code
    except (CheckpointError, UserError, ValueError) as error:
        return complain(str(error))
    return 0


def present(source: Source) -> int:
    """Print what is wanted of one checkpoint. Returns the exit code."""
    options = source.options
    try:
        if options.interactive:
            return interact(source, lambda beginning: show(source, beginning))
        show(source, options.prompt)
    except ExhaustedError as error:
        return complain(str(error))
    except (ArithmeticError, ValueError):  # infinities, which choose no letter
        return complain("the model's numbers overflow: its weights are of no use")
    return 0


def show(source: Source, prompt: str) -> None:
    """Print the samples as they come. Raises ExhaustedError, and others when numbers overflow."""
    options = source.options
    for number, text in enumerate(source.samples(prompt), 1):
        letters = source.explain(text) if options.explain else None
        if options.json:
            print(sample_json(number, text, letters, options.per_head), flush=True)
            continue
        print(sample_line(number, text), flush=True)
        if letters is not None:
            print("\n".join(explanation(letters, options.per_head)), flush=True)

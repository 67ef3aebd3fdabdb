"""Invent documents with a trained model: ``python scripts/sample.py checkpoint.msgpack``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("msgpack")

import argparse
import random
import sys
from collections.abc import Iterator
from io import TextIOWrapper

from microgpt import checkpoint, sampling


def main(arguments: list[str] | None = None) -> int:
    """Print the samples. Returns the exit code: 1 with one line on stderr for whatever is wrong."""
    options = parse(arguments)
    try:
        loaded = checkpoint.load(options.checkpoint)
        rng = loaded.rng() if options.seed is None else random.Random(options.seed)
        samples = sampling.generate(
            loaded.state_dict(),
            loaded.training.model,
            loaded.tokenizer,
            rng,
            num_samples=options.num_samples,
            temperature=options.temperature,
            prompt=options.prompt,
        )
    except (checkpoint.CheckpointError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return show(samples)


def show(samples: Iterator[str]) -> int:
    """Print them as they come. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an alphabet that a terminal lacks
    number = 0
    while True:
        try:
            sample = next(samples, None)
        except (ArithmeticError, ValueError):  # infinities, which choose no letter
            print("error: the model's numbers overflow: its weights are of no use", file=sys.stderr)
            return 1
        if sample is None:
            return 0
        number += 1
        print(f"sample {number:2d}: {sample}", flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Print documents that a trained model invents.")
    parser.add_argument("checkpoint", help="a file such as runs/latest/checkpoint.msgpack")
    parser.add_argument("--num-samples", type=int, default=20, help="how many (default: 20)")
    parser.add_argument(
        "--temperature", type=float, default=0.5, help="below 1 likelier ones (default: 0.5)"
    )
    parser.add_argument(
        "--seed", type=int, help="of the draws (default: go on with the training's generator)"
    )
    parser.add_argument("--prompt", default="", help="what every sample begins with")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone
        sys.exit(1)

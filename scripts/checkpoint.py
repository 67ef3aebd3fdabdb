"""Look into checkpoints: ``python scripts/checkpoint.py show FILE [--json]``."""

from __future__ import annotations

from _bootstrap import find_project

find_project("msgpack")

import argparse
import json
import sys
from typing import Any

from microgpt import checkpoint


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: 1 with one line on stderr for whatever is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print what a checkpoint holds")
    show.add_argument("file")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    options = parser.parse_args(arguments)
    try:
        contents = describe(checkpoint.load(options.file))
    except checkpoint.CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(contents, indent=2, ensure_ascii=False))
    else:
        show_lines(contents)
    return 0


def describe(loaded: checkpoint.Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, as plain values."""
    return {
        "format_version": checkpoint.VERSION,
        "run": loaded.run,
        "step": loaded.step,
        "num_params": loaded.num_params,
        "params_sha256": loaded.params_sha256,
        "state_sha256": loaded.state_sha256,
        "last_loss": loaded.losses[-1] if loaded.losses else None,
        "training": loaded.training.to_dict(),
        "tokenizer": {"chars": loaded.tokenizer.chars, "vocab_size": loaded.tokenizer.vocab_size},
        "data": dict(loaded.data),
        "shapes": {name: list(shape) for name, shape in loaded.shapes.items()},
    }


def show_lines(contents: dict[str, Any], indent: str = "") -> None:
    """Print nested maps as ``key  value`` lines."""
    width = max(len(key) for key in contents)
    for key, value in contents.items():
        if isinstance(value, dict):
            print(f"{indent}{key}")
            show_lines(value, indent + "  ")
        else:
            text = " x ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{indent}{key:{width}}  {text}")


if __name__ == "__main__":
    sys.exit(main())

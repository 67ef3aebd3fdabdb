"""The command line of ``scripts/sample.py``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from lab.remote.fetch import is_address
from lab.terminal import VERSION


@dataclass(frozen=True)
class Options:
    """What the user asked for; see ``--help``."""

    checkpoint: str
    curve: str | None
    follow: bool
    num_samples: int
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int | None
    prompt: str
    unique: bool
    not_in_training_data: bool
    data: str | None
    interactive: bool
    json: bool
    explain: bool
    per_head: bool
    engine: str


def parse(arguments: list[str] | None) -> Options:
    """The options; exits with 2 and a line on stderr for a wrong command line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.interactive and given.prompt:
        parser.error("--interactive asks for the beginnings: leave out --prompt")
    if given.per_head and not given.explain:
        parser.error("--per-head says how to --explain: give both")
    if given.data is not None and not given.not_in_training_data:
        parser.error("--data is where --not-in-training-data looks: give both")
    if not is_address(given.checkpoint) and (given.follow or given.curve is not None):
        flag = "--follow" if given.follow else "--curve"
        parser.error(f"{flag} is for a coordinator: give its address instead of a file")
    if given.follow and given.interactive:
        parser.error("--follow asks for nothing: leave out --interactive")
    if given.num_samples is None:
        given.num_samples = 5 if given.interactive or given.follow else 20
    return Options(**vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Print documents that a trained model invents.", allow_abbrev=False
    )
    parser.add_argument(
        "checkpoint",
        help="a file, a run directory such as runs/latest, or the address of a coordinator that "
        "trains, such as tcp://HOST:5555, for the newest one",
    )
    parser.add_argument("--curve", metavar="DIR", help="folder of keys, if the coordinator has one")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="sample anew for each newer checkpoint of the coordinator, until it ends",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    draws = parser.add_argument_group("what is drawn")
    draws.add_argument(
        "--num-samples",
        type=int,
        help="how many (default: 20; for each line of --interactive or checkpoint of --follow 5)",
    )
    draws.add_argument(
        "--temperature",
        type=float,
        default=0.5,
        help="below 1 likelier ones, 0 the likeliest alone (default: 0.5)",
    )
    draws.add_argument("--top-k", type=int, help="draw among the K likeliest letters only")
    draws.add_argument(
        "--top-p", type=float, help="draw among the likeliest letters that make up the share P only"
    )
    draws.add_argument(
        "--seed", type=int, help="of the draws (default: go on with the training's generator)"
    )
    draws.add_argument("--prompt", default="", help="what every sample begins with")
    draws.add_argument("--unique", action="store_true", help="no sample twice")
    draws.add_argument(
        "--not-in-training-data", action="store_true", help="no document of the training's data"
    )
    draws.add_argument("--data", help="where that data is (default: where the training had it)")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--json", action="store_true", help="one JSON object a line")
    shown.add_argument(
        "--explain",
        action="store_true",
        help="for every letter its probability, and the attention to the letters before it",
    )
    shown.add_argument(
        "--per-head", action="store_true", help="explain each attention head, not their mean"
    )
    shown.add_argument(
        "--interactive",
        action="store_true",
        help="type beginnings (or pipe them in, one a line) and see how they may go on",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "plain", "tape"),
        default="auto",
        help="who computes: plain Python, or the tape engine's compiled code, worth its start for "
        "thousands of samples; the samples are the same (default: auto)",
    )
    return parser

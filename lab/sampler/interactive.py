"""Beginnings in, ways to go on out: one line at a time, with or without a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from typing import TextIO

from lab.sampler.show import completion_line, next_line
from lab.sampler.source import Source
from lab.terminal import FAILED, UserError, complain, to_json
from microgpt.explain import completions, next_letters
from microgpt.sampling import check_prompt

#: No beginning is longer; the rest of such a line is skipped.
MAX_LINE = 10_000
HELP = "Type a beginning and press Enter; an empty line begins anew; Ctrl-D ends."


def interact(source: Source, print_samples: Callable[[str], None]) -> int:
    """Answer every line of standard input. Returns 1 if a piped line could not be answered.

    Raises UserError if there is no standard input.
    """
    if sys.stdin is None:
        raise UserError("standard input is closed: --interactive reads the beginnings there")
    if sys.stdin.isatty() and sys.stdout.isatty() and not source.options.json:
        for line in _typed(source):
            _answer(source, line, print_samples)
        return 0
    failed = False
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is no text is no letter either
    for line in piped(sys.stdin):
        failed = not _answer(source, line, print_samples) or failed
    return FAILED if failed else 0


def piped(stream: TextIO) -> Iterator[str]:
    """The lines of a stream, each cut at ``MAX_LINE`` letters."""
    while line := stream.readline(MAX_LINE):
        end = line
        while len(end) == MAX_LINE and not end.endswith("\n"):
            end = stream.readline(MAX_LINE)
        yield line.removesuffix("\n").removesuffix("\r")


def _typed(source: Source) -> Iterator[str]:
    """Lines typed at a terminal: with completion where prompt_toolkit is installed."""
    try:
        from lab.sampler.prompt import prompts
    except ImportError:
        print(
            "no completion while you type: it needs prompt_toolkit (pip install prompt_toolkit)",
            file=sys.stderr,
        )
        prompts = _plain_prompts
    print(HELP)
    return prompts(source)


def _plain_prompts(source: Source) -> Iterator[str]:
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def _answer(source: Source, line: str, print_samples: Callable[[str], None]) -> bool:
    """Show how a beginning may go on. False, after a line on stderr, if it cannot begin anything.

    A full-length beginning cannot go on; that is an error like an unknown letter.
    """
    try:
        beginning = check_prompt(line, source.model, source.tokenizer)
        letters = next_letters(source.odds, source.tokenizer, beginning)
        likeliest = completions(source.odds, source.tokenizer, source.model.block_size, beginning)
    except ValueError as error:
        complain(str(error))
        return False
    if source.options.json:
        record = {
            "text": line,
            "next": [{"letter": letter, "probability": p} for letter, p in letters],
            "completions": [{"text": text, "probability": p} for text, p in likeliest],
        }
        print(to_json(record), flush=True)
    else:
        print(f"next letter: {next_line(letters)}")
        print(f"likeliest:   {completion_line(likeliest)}", flush=True)
    print_samples(line)
    return True

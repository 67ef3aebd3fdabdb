"""How samples are shown: as lines, as JSON, and with the reasons for every letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.terminal import to_json, visible
from microgpt.explain import Letter

BEGIN, END, EMPTY = "^", "(end)", "(nothing)"


def sample_line(number: int, text: str) -> str:
    """As microgpt.py shows a sample."""
    return f"sample {number:2d}: {visible(text)}"


def sample_json(number: int, text: str, letters: Sequence[Letter] | None, per_head: bool) -> str:
    """One sample as one line of JSON."""
    record: dict[str, Any] = {"sample": number, "text": text}
    if letters is not None:
        record["letters"] = [
            {
                "letter": letter.letter,
                "probability": letter.probability,
                "rank": letter.rank,
                "attention": letter.attention if per_head else letter.averaged(),
            }
            for letter in letters
        ]
    return to_json(record)


def explanation(letters: Sequence[Letter], per_head: bool) -> list[str]:
    """A table: a row per letter (and layer, and head), a column per position it may look at."""
    seen = [BEGIN, *(_name(letter) for letter in letters[:-1])]
    many = per_head or len(letters[0].attention) > 1
    who = f"{'head' if per_head else 'layer':>7}" if many else ""
    heads = "".join(f"{letter:>6}" for letter in seen)
    lines = [f"  {'letter':>6}  {'chance':>7} {'rank':>5} {who} |{heads}  attention"]
    for letter in letters:
        head = f"  {_name(letter):>6}  {100 * letter.probability:6.2f}% {letter.rank:5d} "
        for name, weights in _rows(letter, per_head):
            cells = "".join(f"{weight:6.2f}" for weight in weights)
            lines.append(f"{head}{f'{name:>7}' if many else ''} |{cells}")
            head = " " * len(head)
    return lines


def _rows(letter: Letter, per_head: bool) -> list[tuple[str, Sequence[float]]]:
    if not per_head:
        return [(f"{n}", weights) for n, weights in enumerate(letter.averaged())]
    return [
        (f"{layer}.{head}", weights)
        for layer, heads in enumerate(letter.attention)
        for head, weights in enumerate(heads)
    ]


def _name(letter: Letter) -> str:
    return END if letter.letter is None else visible(letter.letter)


def next_line(letters: Sequence[tuple[str | None, float]], count: int = 8) -> str:
    """The likeliest next letters with their probabilities."""
    return "  ".join(
        f"{END if letter is None else visible(letter)} {100 * probability:.1f}%"
        for letter, probability in letters[:count]
        if probability >= 0.0005
    )


def completion_line(documents: Sequence[tuple[str, float]]) -> str:
    """The likeliest ways to go on with their probabilities."""
    return "  ".join(f"{visible(text) or EMPTY} {100 * chance:.1f}%" for text, chance in documents)

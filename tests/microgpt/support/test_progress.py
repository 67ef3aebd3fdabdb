"""Lines about long work: none while it is short, then the share and the time left."""

from __future__ import annotations

import pytest

from microgpt.data.corpus import Corpus
from microgpt.support.progress import Progress, show_seconds


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_short_work_is_silent_and_long_work_says_what_is_left() -> None:
    clock, lines = Clock(), list[str]()
    progress = Progress("baking", lines.append, clock=clock)
    for done in range(20):
        clock.now = 100.0 + 0.1 * done
        progress(done, 100)
    assert lines == []
    clock.now = 110.0
    progress(25, 100)
    progress(26, 100)
    assert lines == ["baking: 25 %, about 30 s left"]
    clock.now = 116.0
    progress(100, 100, "the last loaf")
    assert lines[1:] == ["baking: 100 %, about 0 s left (the last loaf)"]


def test_nothing_done_yet_is_no_promise() -> None:
    clock, lines = Clock(), list[str]()
    progress = Progress("baking", lines.append, first=0.0, clock=clock)
    progress(0, 10, "mixing")
    progress(0, 0)
    assert lines == ["baking: 0 % (mixing)"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


def test_a_corpus_tells_how_far_it_is() -> None:
    seen: list[tuple[float, float]] = []
    documents = ["anna", "bo", "carla"]
    told = Corpus(documents, 1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(6)]
    plain = Corpus(documents, 1)
    assert [*told.batch(0, 3)] == [*plain.batch(0, 3)]
    assert told.rng.getstate() == plain.rng.getstate()

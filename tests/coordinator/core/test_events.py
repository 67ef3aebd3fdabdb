"""Typed events: their one written form, its strictness, and the sentences for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.event_json import ENVELOPE, EventError, from_json, kind_of, to_json
from coordinator.core.event_text import describe
from coordinator.core.events import (
    EVENTS,
    SCHEMA,
    Answered,
    Dropped,
    DropReason,
    EventBase,
    Joined,
    JudgeAsked,
    LeftOut,
    Level,
    Recorded,
    RoundClosed,
    RoundOutcome,
    Silent,
    Started,
    StrategyNumbers,
    TensorNorms,
)

STARTED = Started(SCHEMA, "run", "epoch", 0, 10, Level.SUMMARY)
TEXT = st.text(max_size=20)
NUMBER = st.floats(-1e300, 1e300, allow_nan=False)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**53),
    float: NUMBER,
    bool: st.booleans(),
    str: TEXT,
    tuple[str, str]: st.tuples(TEXT, TEXT),
    tuple[int, ...]: st.lists(st.integers(0, 2**53), max_size=5).map(tuple),
    tuple[float, ...]: st.lists(NUMBER, max_size=5).map(tuple),
    tuple[str, ...]: st.lists(TEXT, max_size=5).map(tuple),
    Mapping[str, float]: st.dictionaries(TEXT, NUMBER, max_size=3),
    Mapping[str, Mapping[str, int]]: st.dictionaries(
        TEXT, st.dictionaries(TEXT, st.integers(0, 2**53), max_size=3), max_size=3
    ),
}


def events_of(event_type: type[EventBase]) -> st.SearchStrategy[Any]:
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name, kind in get_type_hints(event_type).items():
        if name in {field.name for field in fields(event_type)}:
            values[name] = PLAIN[kind] if kind in PLAIN else st.sampled_from([*kind])
    if event_type is Started:
        values["schema"] = st.just(SCHEMA)
    return st.builds(event_type, **values)


@pytest.mark.parametrize("event_type", EVENTS, ids=lambda event_type: event_type.__name__)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_event_is_what_it_was_when_it_comes_back(
    event_type: type[EventBase], data: st.DataObject
) -> None:
    event = data.draw(events_of(event_type))
    time, step = data.draw(st.integers(0, 2**41)) / 1024, data.draw(st.integers(0, 2**53))
    line = to_json(Recorded(time, step, event))
    assert "\n" not in line
    assert from_json(line) == from_json(line.encode()) == Recorded(round(time, 6), step, event)
    assert type(from_json(line).event) is event_type
    plain = json.loads(line)
    assert tuple(plain) == (*ENVELOPE, *(field.name for field in fields(event_type)))
    assert plain["kind"] == kind_of(event)


def example(event_type: type[EventBase]) -> Any:
    """One event of a type, with a number that is found in no other text."""
    values: dict[str, Any] = {}
    for place, field in enumerate(fields(event_type)):
        kind = get_type_hints(event_type)[field.name]
        plain: dict[Any, Any] = {int: 7000 + place, float: 8000.5 + place, bool: True}
        plain |= {str: f"<{field.name}>", tuple[str, str]: ("<one>", "<other>")}
        plain |= {tuple[int, ...]: (9000, 9001), tuple[float, ...]: (0.5,), tuple[str, ...]: ("a",)}
        plain |= {Mapping[str, float]: {"a": 0.5}, Mapping[str, Mapping[str, int]]: {"b": {"1": 2}}}
        values[field.name] = plain[kind] if kind in plain else next(iter(kind))
    return event_type(**values)


@pytest.mark.parametrize("event_type", EVENTS, ids=lambda event_type: event_type.__name__)
def test_every_event_has_a_sentence_made_of_its_fields(event_type: type[EventBase]) -> None:
    sentence = describe(example(event_type))
    assert len(sentence) > 5
    assert not re.search(r"object at|Level\.|Purpose\.|None", sentence)
    names = {field.name for field in fields(event_type)}
    for name in names & {"name", "reason", "text", "folder", "engine"}:
        value = getattr(example(event_type), name)
        assert value in sentence or issubclass(event_type, JudgeAsked), name


def test_the_written_form() -> None:
    answered = Answered(7, 6, 8, 4, False, 2, "anna \N{SNOWMAN}", False, 0.25, 1.5)
    line = to_json(Recorded(1764277000.25, 6, answered))
    assert line == (
        '{"kind": "answered", "time": 1764277000.250000, "step": 6, "round": 7, "version": 6, '
        '"start": 8, "count": 4, "evaluation": false, "worker": 2, "name": "anna \N{SNOWMAN}", '
        '"trial": false, "seconds": 0.25, "waited": 1.5}'
    )
    assert describe(answered) == (
        "anna \N{SNOWMAN} has computed documents 9 to 12 of step 7 in 0.250000 s"
    )


def test_sentences() -> None:
    assert describe(Silent(1, "anna", 2, 1.54)) == (
        "anna is silent for 1.5 s; its 2 unfinished shard(s) go to others"
    )
    assert describe(Dropped(3, 4, 0, 2, True, 1, "anna", DropReason.LATE)) == (
        "the answer of anna for held-out documents 1 to 2 after step 4 is not used: late"
    )
    assert describe(StrategyNumbers(3, {"clock_spread": 1.5}, {"staleness": {"0": 7, "3": 1}})) == (
        "the strategy at step 3: clock_spread 1.5, staleness 0:7 3:1"
    )
    assert describe(LeftOut("joined", 70)) == "lines left out: 70 of kind joined"


JOINED = json.loads(to_json(Recorded(1.0, 2, Joined(1, "anna", "tape"))))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "party"}, "there is no kind of event 'party'"),
        ({"kind": None}, "there is no kind of event None"),
        ({"kind": ["joined"]}, "there is no kind of event"),
        ({"more": 1}, "joined has other fields than it should: more"),
        ({"worker": ...}, "joined has other fields than it should: worker"),
        ({"time": ...}, "joined has other fields than it should: time"),
        ({"worker": 1.0}, "joined: 1.0 is no worker"),
        ({"worker": True}, "joined: true is no worker"),
        ({"worker": -1}, "joined: -1 is no worker"),
        ({"worker": "1"}, 'joined: "1" is no worker'),
        ({"name": 1}, "joined: 1 is no name"),
        ({"name": None}, "joined: null is no name"),
        ({"time": "now"}, 'joined: "now" is no time'),
        ({"time": float("nan")}, "joined: NaN is no time"),
        ({"time": float("inf")}, "joined: Infinity is no time"),
        ({"step": 1.5}, "joined: 1.5 is no step"),
    ],
)
def test_what_is_no_event_is_refused(changes: dict[str, Any], says: str) -> None:
    plain = {key: value for key, value in {**JOINED, **changes}.items() if value is not ...}
    with pytest.raises(EventError, match=f"^{re.escape(says)}"):
        from_json(json.dumps(plain))
    assert from_json(json.dumps(JOINED)).event == Joined(1, "anna", "tape")


@pytest.mark.parametrize("line", ["", "{", "[]", "1", '"joined"', b"\xff", "{} {}"])
def test_what_is_no_json_object_is_refused(line: str | bytes) -> None:
    with pytest.raises(EventError):
        from_json(line)


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        (Recorded(1.0, 2, STARTED), {"level": "everything"}),
        (Recorded(1.0, 2, Dropped(1, 1, 0, 1, False, 1, "a", DropReason.LATE)), {"reason": 1}),
        (Recorded(1.0, 2, Dropped(1, 1, 0, 1, False, 1, "a", DropReason.LATE)), {"evaluation": 0}),
    ],
)
def test_other_words_and_types_are_refused(line: Recorded, changes: dict[str, Any]) -> None:
    plain = json.loads(to_json(line))
    (name,) = changes
    with pytest.raises(EventError, match=f" is no {name}$"):
        from_json(json.dumps({**plain, **changes}))


def test_a_later_version_of_the_form_is_refused_in_one_line() -> None:
    plain = json.loads(to_json(Recorded(1.0, 2, STARTED)))
    later = json.dumps({**plain, "schema": SCHEMA + 1, "unheard-of": 1})
    with pytest.raises(EventError, match=rf"^it is of version {SCHEMA + 1} of the .* newer one$"):
        from_json(later)
    for wrong in (0, True, "1", None, 1.0):
        with pytest.raises(EventError, match="no version"):
            from_json(json.dumps({**plain, "schema": wrong}))


def test_what_an_earlier_version_does_not_have_is_filled_in() -> None:
    line = (
        '{"kind": "round_closed", "time": 1.0, "step": 2, "round": 1, "version": 1, '
        '"evaluation": false, "shards": 3, "results": 3, "outcome": "applied"}'
    )
    expected = RoundClosed(1, 1, False, 3, 3, RoundOutcome.APPLIED)
    assert from_json(line, schema=1).event == expected
    with pytest.raises(EventError, match="other fields than it should: counted, cut, workers"):
        from_json(line)
    with pytest.raises(EventError, match="its version does not know: counted, cut, workers"):
        from_json(to_json(Recorded(1.0, 2, expected)), schema=1)
    old = json.loads(to_json(Recorded(1.0, 2, replace(STARTED, schema=1))))
    del old["next_document"]
    assert from_json(json.dumps(old)).event == replace(STARTED, schema=1)


@pytest.mark.parametrize("cut", [1, "[1]", [1.0], [-1], [True], [[1]], None])
def test_what_is_no_list_of_whole_numbers_is_refused(cut: object) -> None:
    closed = RoundClosed(1, 1, False, 3, 3, RoundOutcome.APPLIED, (4, 4, 1), (0, 2), 5)
    plain = json.loads(to_json(Recorded(1.0, 2, closed)))
    assert (plain["cut"], plain["counted"]) == ([4, 4, 1], [0, 2])
    with pytest.raises(EventError, match=r"^round_closed: .* is no cut$"):
        from_json(json.dumps({**plain, "cut": cut}))


NORMS = TensorNorms(3, ("wte", "wpe"), (0.5, 1.0), (1e-300, 0.0))
NUMBERS = StrategyNumbers(3, {"clock_spread": -1.5}, {"staleness": {"0": 7, "3": 1}})


WRONG: list[tuple[StrategyNumbers | TensorNorms, str, tuple[object, ...]]] = [
    (NORMS, "update", (1.0, [1], ["1"], [None], [[1.0]], {"a": 1.0})),
    (NORMS, "gradient", ([float("nan")], [float("inf")], [True])),
    (NORMS, "tensors", ("wte", [1], [None], {"wte": 1}, [["wte"]])),
    (NUMBERS, "numbers", ([], 1.0, {"a": 1}, {"a": "1"}, {"a": [1.0]}, {"a": -float("inf")})),
    (NUMBERS, "histograms", ([], {"a": 1}, {"a": [1]}, {"a": None}, {"a": {"1": {}}})),
    (NUMBERS, "histograms", tuple({"a": {"1": wrong}} for wrong in (-1, 1.0, True, "1", None))),
]


@pytest.mark.parametrize(
    ("event", "name", "wrong"),
    [(event, name, each) for event, name, wrong in WRONG for each in wrong],
)
def test_what_are_no_lists_and_maps_of_numbers_is_refused(
    event: StrategyNumbers | TensorNorms, name: str, wrong: object
) -> None:
    plain = json.loads(to_json(Recorded(1.0, 3, event)))
    assert from_json(json.dumps(plain)).event == event
    with pytest.raises(EventError, match=rf"^{kind_of(event)}: .* is no {name}$"):
        from_json(json.dumps({**plain, name: wrong}))


@pytest.mark.parametrize("schema", [1, 2])
def test_an_earlier_version_has_no_later_kinds_and_no_hosts(schema: int) -> None:
    says = f"version {schema} of the events' form has no kind 'tensor_norms'"
    with pytest.raises(EventError, match=f"^{says}$"):
        from_json(to_json(Recorded(1.0, 3, NORMS)), schema)
    joined = json.loads(to_json(Recorded(1.0, 3, Joined(1, "anna", "tape", "10.0.0.7"))))
    with pytest.raises(EventError, match="its version does not know: host"):
        from_json(json.dumps(joined), schema)
    del joined["host"]
    assert from_json(json.dumps(joined), schema).event == Joined(1, "anna", "tape", "")


def test_kinds_are_told_apart_by_their_names() -> None:
    kinds = [kind_of(event_type) for event_type in EVENTS]
    assert len(set(kinds)) == len(kinds) > 30
    assert {"round_opened", "checkpoints_vanished", "assigned"} <= set(kinds)

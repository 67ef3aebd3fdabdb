"""Records are frozen dataclasses to whoever reads and compares them."""

from __future__ import annotations

import weakref
from copy import copy
from dataclasses import field, replace

import pytest

from microgpt.support.records import record


@record(frozen=True)
class Point:
    x: int
    y: int = 2


@record(frozen=True)
class Named(Point):
    name: str = field(kw_only=True)


def test_equal_records_are_one_key() -> None:
    assert Point(1) == Point(1, 2)
    assert {Point(1): "found"}[Point(1, 2)] == "found"
    assert Point(1) != Point(2)
    assert Named(1, name="a") != Point(1)


def test_a_record_inherits_and_is_changed_by_making_another() -> None:
    point = Named(1, name="a")
    assert replace(point, y=3) == Named(1, 3, name="a")
    assert repr(point).endswith("Named(x=1, y=2, name='a')")
    assert copy(point) == point


def test_a_record_has_its_fields_and_nothing_else() -> None:
    point = Named(1, name="a")
    assert not hasattr(point, "__dict__")
    with pytest.raises(AttributeError):
        point.z = 1  # type: ignore[attr-defined]


def test_a_record_is_told_of_when_it_is_in_use_no_more() -> None:
    point, gone = Point(1), list[str]()
    end = weakref.ref(point, lambda _: gone.append("gone"))
    assert end() is point
    del point
    assert gone == ["gone"]

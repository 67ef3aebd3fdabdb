from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.support.options import (
    FIRST,
    describe,
    make,
    make_with,
    name_of,
    options_of,
    parse_spec,
)


class PaintError(Exception):
    pass


@dataclass(frozen=True)
class Paint:
    shade: float = 0.5
    coats: int = 2
    glossy: bool = False
    colour: str = "red"
    mixed: str = field(default="here", init=False)

    def __post_init__(self) -> None:
        if self.coats < 1:
            raise ValueError(f"coats must be at least 1, not {self.coats}")

    def brush(self) -> None:
        pass


@dataclass(frozen=True)
class Plain:
    pass


class Unfinished:
    pass


PAINTS: dict[str, type] = {"paint": Paint, "plain": Plain, "unfinished": Unfinished}


def load(spec: str, methods: tuple[str, ...] = ()) -> object:
    made: object = make("paint", PAINTS, spec, PaintError, methods)
    return made


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("topk", "topk", {}),
        ("topk:0.01", "topk", {FIRST: "0.01"}),
        ("topk:density=0.01", "topk", {"density": "0.01"}),
        ("a:x=1,y=2", "a", {"x": "1", "y": "2"}),
        ("a:x=", "a", {"x": ""}),
        ("a:x=b=c", "a", {"x": "b=c"}),
        ("mine.py:Mine", "mine.py:Mine", {}),
        ("/in/mine.py:Mine:3", "/in/mine.py:Mine", {FIRST: "3"}),
        ("mine.py:Mine:x=1,y=2", "mine.py:Mine", {"x": "1", "y": "2"}),
    ],
)
def test_a_text_is_a_name_and_options(text: str, name: str, options: dict[str, str]) -> None:
    assert parse_spec(text) == (name, options)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not of the form NAME, NAME:VALUE or NAME:KEY=VALUE,..."),
        (":1", "':1' is not of the form"),
        ("a:", "'a:' is not of the form"),
        ("mine.py:", "'mine.py:' is not of the form"),
        ("a:x=1,", "'' in 'a:x=1,' is not of the form KEY=VALUE"),
        ("a:1,2", "'1' in 'a:1,2' is not of the form KEY=VALUE"),
        ("a:x=1,2", "'2' in 'a:x=1,2' is not"),
        ("a:1x=1", "'1x=1' in 'a:1x=1' is not"),
        ("a:x=1,x=2", "'a:x=1,x=2' gives x twice"),
    ],
)
def test_a_text_of_another_form_is_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_spec(text)
    with pytest.raises(PaintError, match=re.escape(f"paint {reason}")):
        load(text)


def test_options_get_the_types_of_their_fields() -> None:
    assert load("paint") == Paint()
    assert load("paint:0.25") == Paint(shade=0.25)
    assert load("paint:coats=3,glossy=yes,colour=blue") == Paint(0.5, 3, True, "blue")
    given = {"shade": 1, "coats": 3, "glossy": True}
    made: Paint = make_with("paint", PAINTS, "paint", given, PaintError)
    assert made == Paint(1.0, 3, True)
    assert type(made.shade) is float


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("paimt", "there is no paint 'paimt': did you mean paint? (or FILE.py:Class)"),
        ("x", "there is no paint 'x': there are paint, plain, unfinished (or FILE.py:Class)"),
        ("paint:coat=1", "paint paint has no option 'coat': did you mean coats?"),
        ("paint:zzz=1",
         "paint paint has no option 'zzz': its options are shade, coats, glossy, colour"),
        ("paint:mixed=there",
         "paint paint has no option 'mixed': its options are shade, coats, glossy, colour"),
        ("plain:x=1", "paint plain has no option 'x': it has no options"),
        ("plain:3", "paint plain has no option '3': it has no options"),
        ("paint:dark", "paint paint: option shade wants a number, not 'dark'"),
        ("paint:coats=1.5", "paint paint: option coats wants a whole number, not '1.5'"),
        ("paint:glossy=maybe", "paint paint: option glossy wants true or false, not 'maybe'"),
        ("paint:coats=0", "paint paint: coats must be at least 1, not 0"),
        ("unfinished", "paint unfinished: its class must be a dataclass (@dataclass)"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(PaintError) as failed:
        load(spec)
    assert str(failed.value) == sentence


def test_a_fraction_is_no_whole_number() -> None:
    with pytest.raises(PaintError, match=r"wants a whole number, not 1\.5"):
        make_with("paint", PAINTS, "paint", {"coats": 1.5}, PaintError)


def test_methods_are_asked_for() -> None:
    assert load("paint", ("brush",)) == Paint()
    with pytest.raises(PaintError, match=r"^paint plain has no 'brush'$"):
        load("plain", ("brush",))


@given(
    st.floats(allow_nan=False),
    st.integers(1, 10**20),
    st.booleans(),
    st.text().filter(lambda text: "," not in text),
)
def test_a_description_parses_back_to_the_bit(
    shade: float, coats: int, glossy: bool, colour: str
) -> None:
    paint = Paint(shade, coats, glossy, colour)
    again = load(describe(PAINTS, paint))
    assert again == paint
    assert describe(PAINTS, again) == describe(PAINTS, paint)


def test_a_description_names_all_options() -> None:
    text = "paint:shade=0.5,coats=2,glossy=false,colour=red"
    assert describe(PAINTS, Paint()) == text
    assert describe(PAINTS, Plain()) == "plain"
    assert options_of(Paint()) == {"shade": 0.5, "coats": 2, "glossy": False, "colour": "red"}
    with pytest.raises(ValueError, match="has a comma in it"):
        describe(PAINTS, Paint(colour="red,blue"))


def test_a_class_of_a_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    x: int = 1\n"
    )
    monkeypatch.chdir(tmp_path)
    mine = load("mine.py:Mine:7")
    assert options_of(mine) == {"x": 7}
    monkeypatch.chdir("/")
    assert name_of(PAINTS, mine) == f"{(tmp_path / 'mine.py').resolve()}:Mine"
    assert options_of(load(describe(PAINTS, mine))) == {"x": 7}


def test_types_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Mine:\n    x: Gone = 1\n"
    )
    with pytest.raises(PaintError, match="the types of its options cannot be read: name 'Gone'"):
        load(f"{file}:Mine:1")

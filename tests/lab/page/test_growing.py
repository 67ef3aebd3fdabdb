"""A file is read as it grows: whole lines, each once, whatever becomes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.page import growing
from lab.page.growing import GrowingFile


def read(file: GrowingFile) -> tuple[bytes, bool]:
    lines, anew, _, _ = file.read()
    return lines, anew


def test_lines_are_read_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    file = GrowingFile(path)
    assert read(file) == (b"", False)
    with open(path, "ab", buffering=0) as out:
        out.write(b"one\ntw")
        assert file.read() == (b"one\n", False, 0, 2)
        assert read(file) == (b"", False)
        out.write(b"o\nthree\n")
        assert file.read() == (b"two\nthree\n", False, 4, 0)


def test_a_file_that_is_cut_back_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"1 a\n2 a\n3 a\n")
    file = GrowingFile(path)
    read(file)
    os.truncate(path, 4)
    assert read(file) == (b"1 a\n", True)
    assert read(file) == (b"", False)


def test_a_file_that_was_cut_back_and_has_grown_again_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"1 a\n2 a\n3 a\n")
    file = GrowingFile(path)
    read(file)
    os.truncate(path, 4)
    with open(path, "ab") as out:
        out.write(b"2 b\n3 b\n4 b\n")
    assert read(file) == (b"1 a\n2 b\n3 b\n4 b\n", True)


def test_a_file_that_is_replaced_or_gone_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n")
    file = GrowingFile(path)
    read(file)
    (tmp_path / "other").write_bytes(b"one\ntwo\n")
    os.replace(tmp_path / "other", path)
    assert read(file) == (b"one\ntwo\n", True)
    path.unlink()
    assert read(file) == (b"", True)


def test_the_last_bytes_can_be_left(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\nthree\n")
    file = GrowingFile(path)
    assert file.read(leave=7) == (b"one\n", False, 0, 10)
    assert file.read(leave=100) == (b"", False, 4, 10)
    assert read(file) == (b"two\nthree\n", False)


def test_a_line_that_is_too_long_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "MOST_LINE", 100)
    path = tmp_path / "lines"
    path.write_bytes(b"one\n" + b"x" * 250 + b"\ntwo\n")
    file = GrowingFile(path)
    found = [file.read(most=100).lines for _ in range(5)]
    assert b"".join(found) == b"one\ntwo\n"


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a file"):
        GrowingFile(tmp_path / "pipe").read()

"""Documents in memory: what a file's bytes, or a program's own texts, hold.

It must not import NumPy or zmq.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from microgpt.protocol.schema import MAX_DOCUMENTS as MAX_TOKENS

#: Characters of a document, which goes to workers with a token at either end.
MAX_CHARACTERS = MAX_TOKENS - 2


class DatasetError(Exception):
    """The user's data cannot be used. The message says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Documents and where they come from.

    ``name`` is "names", "embedded", or the path or URL as given; ``documents`` are stripped and in
    file order, blank lines left out; ``sha256`` and ``num_bytes`` are those of the file's bytes.
    """

    name: str
    documents: tuple[str, ...]
    sha256: str
    num_bytes: int

    def fingerprint(self) -> dict[str, str | int]:
        """What a run records, to recognise its data when it is resumed."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "documents": len(self.documents),
            "bytes": self.num_bytes,
        }


def from_documents(documents: Iterable[str]) -> Dataset:
    """The data set of a program's own documents, as if they stood in a file, one on each line.

    Raises DatasetError if there are none, or if one is no text or holds a line break.
    """
    documents = tuple(documents)
    if wrong := [document for document in documents if not isinstance(document, str)]:
        raise DatasetError(f"a document is a text, not {type(wrong[0]).__name__}")
    if any("\n" in document or "\r" in document for document in documents):
        raise DatasetError("a document holds a line break: a document is one line")
    try:
        data = "\n".join(documents).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError("a document holds half a surrogate pair, which is no letter") from error
    return parse("in memory", data)


def sha256(data: bytes) -> str:
    """The SHA-256 digest of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parse(name: str, data: bytes) -> Dataset:
    """The data set in a file's bytes. Raises DatasetError if it is not UTF-8 or has no text."""
    text = _decode(name, data).removeprefix("\ufeff")
    # As microgpt.py reads it: universal newlines and nothing else end a line. str.splitlines would
    # also cut at U+2028, form feeds and the like, which are characters of a document.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    documents = tuple(document for line in lines if (document := line.strip()))
    if not documents:
        what = "has only blank lines" if data else "is empty"
        raise DatasetError(f"{name!r} {what}: put one document on each line")
    if max(map(len, documents)) > MAX_CHARACTERS:
        number = 1 + next(i for i, line in enumerate(lines) if len(line.strip()) > MAX_CHARACTERS)
        raise DatasetError(
            f"line {number:,} of {name!r} has {len(lines[number - 1].strip()):,} characters, and a "
            f"document at most {MAX_CHARACTERS:,}: put one document on each line"
        )
    return Dataset(name, documents, sha256(data), len(data))


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        line = before.count(b"\n") + 1
        looks = " (it looks like UTF-16)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise DatasetError(
            f"{name!r} is not UTF-8 text{looks}: byte 0x{data[error.start]:02x} at offset "
            f"{error.start}, line {line}; save it as UTF-8"
        ) from error

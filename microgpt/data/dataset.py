"""Documents to train on: downloaded and verified, embedded in the package, a local file or a URL.

``load_dataset`` is the way in. What it promises about the network is that it never hangs: a server,
a name server or a captive portal that does not deliver is given up within seconds.

Importing this module is cheap: platformdirs and what downloads need are imported where they are
used.
It must not import NumPy or zmq.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from microgpt.data.documents import Dataset, DatasetError, parse, sha256
from microgpt.data.download import DownloadFailedError, Report, download, one_line, show_size
from microgpt.support.cache_directory import cache_folder

#: More than this is refused: all documents are kept in memory, as Python strings.
MAX_BYTES = 2**30
#: What lies there is made when it is read, or is another process's.
_FLEETING = re.compile(r"/dev/(?!shm/)|/proc/|/sys/")


@dataclass(frozen=True)
class Source:
    """A file on the web whose bytes are known. A mirror may serve it: the digest decides."""

    url: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Patience:
    """Seconds. ``stall``: for the first and every next 16 KiB; ``names``: for all of the names."""

    stall: float = 5.0
    names: float = 20.0


NAMES = Source(
    "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt",
    "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
    228_145,
)
_PATIENCE = Patience()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def load_dataset(
    spec: str = "names",
    *,
    report: Report = _to_stderr,
    cache_dir: Path | None = None,
    names: Source | None = None,
    patience: Patience = _PATIENCE,
) -> Dataset:
    """The documents of ``spec``, one per line of a UTF-8 text.

    ``"names"``
        makemore's names, downloaded once into the cache and verified by digest. Without a network
        the embedded names come instead (``Dataset.name`` is then "embedded"), which ``report`` is
        told in one line. ``MICROGPT_NAMES_URL`` sets a mirror.
    ``"embedded"``
        first names of the 1990 US census, part of the package.
    ``"http://..."`` or ``"https://..."``
        downloaded once. The same URL then means the same bytes: the copy in the cache is used, and
        ``report`` is told where it lies, until the user deletes it.
    anything else
        path of a local file (``./names`` for a file of that name).

    The cache is ``cache_dir``, or ``MICROGPT_CACHE_DIR``, or the user's cache directory; if it
    cannot be written everything still works, without it. Raises DatasetError.
    """
    try:
        spec.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"{spec!r} is not UTF-8, and no checkpoint can name it: give the file another name"
        ) from error
    cache = cache_dir or cache_folder()
    if spec == "names":
        return _load_names(names or _names_source(), cache, patience, report)
    if spec == "embedded":
        return _load_embedded()
    if is_url(spec):
        return _load_url(spec, cache, patience, report)
    return parse(spec, _read_file(spec))


def _names_source() -> Source:
    return replace(NAMES, url=os.environ.get("MICROGPT_NAMES_URL") or NAMES.url)


def _load_names(source: Source, cache: Path | None, patience: Patience, report: Report) -> Dataset:
    path = cache and cache / "names.txt"
    data = _read_cached(path)
    if data is not None and sha256(data) == source.sha256:
        return parse("names", data)
    if data is not None:
        report(f"{path} is damaged: its SHA-256 is not the expected one")
    try:
        data = download(
            source.url, report, patience.stall, total=patience.names, max_bytes=source.num_bytes
        )
        if sha256(data) != source.sha256:
            raise DownloadFailedError("what came is not the expected file: its SHA-256 differs")
    except DownloadFailedError as failure:
        embedded = _load_embedded()
        report(
            f"No names from {source.url} ({failure}): training on the "
            f"{len(embedded.documents):,} first names embedded in the package instead"
        )
        return embedded
    _store(path, data, report)
    return parse("names", data)


def _load_embedded() -> Dataset:
    return parse("embedded", (resources.files("microgpt.data") / "first_names.txt").read_bytes())


def _load_url(url: str, cache: Path | None, patience: Patience, report: Report) -> Dataset:
    path = cache and cache / f"url-{sha256(url.encode())[:16]}.txt"
    data = _read_cached(path)
    if data is not None:
        report(f"Using the copy of {url} in {path} (delete it to download it again)")
        return parse(url, data)
    try:
        data = download(url, report, patience.stall, max_bytes=MAX_BYTES)
    except DownloadFailedError as failure:
        raise DatasetError(f"cannot download {url}: {failure}") from failure
    dataset = parse(url, data)  # before storing: what cannot be used is not worth keeping
    _store(path, data, report)
    return dataset


def check_lasting(spec: str) -> None:
    """Raise DatasetError for a ``spec`` that cannot be read again: a pipe or ``/dev/stdin``.

    Other processes than this one could not read it at all.
    """
    if not _is_lasting(spec):
        raise DatasetError(
            f"cannot train on {spec!r}: it can be read only once, and a run that goes on reads its "
            "data again; put the documents into a file"
        )


def check_named(spec: str) -> None:
    """Raise DatasetError unless ``spec`` is safe to load because a checkpoint names it.

    A checkpoint may come from anywhere: no server is asked and no device opened on its word.
    """
    if is_url(spec):
        advice = f"give --data {spec} to use what lies there"
        raise DatasetError(f"the checkpoint says that its data come from {spec}: {advice}")
    if not _is_lasting(spec):
        raise DatasetError(
            f"the checkpoint says that its data are in {spec!r}, which is no regular file: "
            "say with --data where they are"
        )


def is_url(spec: str) -> bool:
    """Whether ``load_dataset`` would look for it on the web."""
    return spec.lower().startswith(("http://", "https://"))


def _is_lasting(spec: str) -> bool:
    """Whether what a path names, if there is anything, is a regular file on a disk, or a folder."""
    if spec in ("names", "embedded") or is_url(spec):
        return True
    try:
        paths = (os.path.abspath(spec), os.path.realpath(spec))
        if any(map(_FLEETING.match, paths)):
            return False
        mode = os.stat(spec).st_mode
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _read_file(path: str) -> bytes:
    """All bytes of the user's file. Raises DatasetError."""
    advice = "--data takes a text file, a URL, 'names' or 'embedded'"
    try:
        with open(path, "rb") as file:
            # One byte too many tells, also for pipes and devices, whose size nobody knows.
            too_large = os.fstat(file.fileno()).st_size > MAX_BYTES
            data = b"" if too_large else file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DatasetError(f"there is no file {path!r}: {advice}") from error
    except IsADirectoryError as error:
        raise DatasetError(f"{path!r} is a directory: {advice}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DatasetError(f"cannot read {path!r}: {one_line(error)}") from error
    if too_large or len(data) > MAX_BYTES:
        raise DatasetError(f"{path!r} is larger than {show_size(MAX_BYTES)}: use a part of it")
    return data


def _read_cached(path: Path | None) -> bytes | None:
    """A file's bytes, or None if it cannot be read: the cache is a convenience."""
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError:
        return None


def _store(path: Path | None, data: bytes, report: Report) -> None:
    """Put a whole file into the cache or nothing, however many processes do so at once."""
    if path is None:
        report("There is no home directory to keep the download in: next time it comes again")
        return
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without the bytes
        os.replace(partial, path)
    except OSError as error:
        report(f"Cannot keep the download in {path} ({one_line(error)}): next time it comes again")
    finally:
        with suppress(OSError):
            partial.unlink()

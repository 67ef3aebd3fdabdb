"""Downloads that never hang: a thread receives, the caller keeps the time.

Importing this module is cheap: requests and rich are imported where they are used.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

#: Tells the user one line.
Report: TypeAlias = Callable[[str], None]

#: So many bytes must arrive within every ``stall`` seconds, or the server is given up.
LEAST_PROGRESS = 16 * 1024
_CHUNK = 4 * 1024


class DownloadFailedError(Exception):
    """Why nothing usable came from a server, in a few words."""


def show_size(num_bytes: int) -> str:
    """A number of bytes for people."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.4g} {unit}"
    return f"{num_bytes} bytes"


@dataclass(frozen=True)
class _Head:
    """A server's answer before its body. ``length`` is None if it did not say."""

    length: int | None
    content_type: str


#: What the receiving thread hands over: a head, bytes, then None at the end, or an error.
_Item: TypeAlias = _Head | bytes | Exception | None
_Items: TypeAlias = "queue.SimpleQueue[_Item]"
#: Called with the bytes received so far and all there will be, None if unknown.
_Advance: TypeAlias = Callable[[int, int | None], None]


def download(
    url: str,
    report: Report,
    stall: float,
    *,
    total: float = float("inf"),
    max_bytes: int,
) -> bytes:
    """The body at ``url``. Raises DownloadFailedError after at most ``stall`` idle seconds.

    Time-outs of sockets do not cover everything: looking up a host's name cannot be interrupted,
    and a trickle of bytes never times out. So a daemon thread receives, and is left to itself
    (it ends with the process) when the caller's patience does.
    """
    import requests  # noqa: F401 - before the clock starts, not in the thread

    items: _Items = queue.SimpleQueue()
    given_up = threading.Event()
    threading.Thread(
        # Its own time-out, so that it ends some day; the longer one, so that ours tells the reason.
        target=_receive,
        args=(url, 2 * stall, items, given_up),
        name="download",
        daemon=True,
    ).start()
    try:
        with _progress(url, report) as advance:
            return _collect(items, advance, stall, total, max_bytes)
    finally:
        given_up.set()


def _receive(url: str, timeout: float, items: _Items, given_up: threading.Event) -> None:
    import requests

    try:
        # Not compressed on the way, so that the length sent is the length received.
        headers = {"Accept-Encoding": "identity"}
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            items.put(_head(response.headers.get))
            for chunk in response.iter_content(_CHUNK):
                if given_up.is_set():
                    return
                items.put(chunk)
        items.put(None)
    except Exception as error:  # every failure is the caller's to explain, a bug's too
        items.put(error)


def _head(header: Callable[[str, str], str]) -> _Head:
    length = header("Content-Length", "")
    plain = header("Content-Encoding", "identity") == "identity"
    return _Head(int(length) if plain and length.isdecimal() else None, header("Content-Type", ""))


def _collect(items: _Items, advance: _Advance, stall: float, total: float, max_bytes: int) -> bytes:
    """The body, put together. Raises DownloadFailedError, also when time or space runs out."""
    data = bytearray()
    length: int | None = None
    start = time.monotonic()
    end, milestone = start + stall, LEAST_PROGRESS
    while (item := _next(items, min(end, start + total), start, len(data))) is not None:
        if isinstance(item, Exception):
            raise DownloadFailedError(_reason(item)) from item
        if isinstance(item, _Head):
            _refuse_web_page(item)
            length = item.length
        else:
            data += item
        if max(len(data), length or 0) > max_bytes:
            raise DownloadFailedError(f"the file is larger than {show_size(max_bytes)}")
        if len(data) >= milestone:
            end, milestone = time.monotonic() + stall, len(data) + LEAST_PROGRESS
        advance(len(data), length)
    return bytes(data)


def _next(items: _Items, deadline: float, start: float, received: int) -> _Item:
    now = time.monotonic()
    try:
        if now < deadline:
            return items.get(timeout=deadline - now)
    except queue.Empty:
        pass
    seconds = f"{deadline - start:.3g} s"
    if received:
        raise DownloadFailedError(f"too slow: {show_size(received)} in {seconds}")
    raise DownloadFailedError(f"no answer within {seconds}")


def _refuse_web_page(head: _Head) -> None:
    # Such as a network's login page, or the page that shows a file instead of the file.
    if head.content_type.lower().startswith(("text/html", "application/xhtml")):
        raise DownloadFailedError("a web page came, not a text file; is it the raw file's URL?")


def _reason(error: BaseException) -> str:
    """The cause at the bottom of an error, on one line: requests wraps it several times."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}".rstrip()
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            error = cause
        cause = cause.__cause__ or cause.__context__
    return one_line(error)


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


@contextmanager
def _progress(url: str, report: Report) -> Iterator[_Advance]:
    """A progress bar on a terminal, elsewhere one plain line."""
    if sys.stderr is None or not sys.stderr.isatty():
        report(f"Downloading {url}")
        yield lambda received, length: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Downloading {url.rsplit('/', 1)[-1] or url}", total=None)
        yield lambda received, length: bar.update(task, completed=received, total=length)

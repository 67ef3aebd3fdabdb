"""Data sets: what a file's bytes become, and a download that never hangs.

The servers are real ones, on 127.0.0.1. None of the tests leaves this machine.
"""

from __future__ import annotations

import hashlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import pytest

from microgpt.data import dataset, download
from microgpt.data.dataset import Patience, Source, load_dataset
from microgpt.data.documents import Dataset, DatasetError

EMBEDDED_SHA256 = "cba14f452b7768bd7fe093035a67491d4a334061634ccfd51522fb796910e75e"
EMBEDDED_COUNT = 5163
#: Stands for makemore's file, which is not part of this repository; larger than one milestone.
BODY = b"".join(b"name%d\n" % index for index in range(5000))
#: Generous for servers that answer, short for those that do not.
PATIENT = Patience(stall=5.0, names=8.0)
HASTY = Patience(stall=0.3, names=0.6)
#: No fallback may take longer than this with ``HASTY``, on however busy a machine.
SOON = 5.0

ShardResult: TypeAlias = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the server's ``answer``."""

    server: Server

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.paths.append(self.path)
        try:
            self.server.answer(self)
        except ConnectionError:
            self.close_connection = True  # the client gave up, as it should

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send(self, body: bytes, kind: str = "text/plain", length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Counts requests; ``released`` ends the answers that would last for ever."""

    daemon_threads = True

    def __init__(self, answer: ShardResult) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/names.txt"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a proxy nor the user's cache takes part."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("MICROGPT_NAMES_URL", raising=False)
    monkeypatch.setenv("MICROGPT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def serve() -> Iterator[Callable[[ShardResult], Server]]:
    servers: list[tuple[Server, threading.Thread]] = []

    def start(answer: ShardResult) -> Server:
        server = Server(answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def whole(handler: Handler) -> None:
    handler.send(BODY)


def source(url: str, body: bytes = BODY) -> Source:
    return Source(url, hashlib.sha256(body).hexdigest(), len(body))


def assert_is_body(loaded: Dataset) -> None:
    assert loaded.name == "names"
    assert loaded.fingerprint() == {
        "name": "names",
        "sha256": hashlib.sha256(BODY).hexdigest(),
        "documents": 5000,
        "bytes": len(BODY),
    }
    assert loaded.documents[:2] == ("name0", "name1")


def fallback_reason(url: str, patience: Patience = HASTY) -> str:
    """Load the names in vain; the one line that says so, after the one that says "Downloading"."""
    lines: list[str] = []
    start = time.monotonic()
    loaded = load_dataset(names=source(url), patience=patience, report=lines.append)
    assert time.monotonic() - start < SOON
    assert (loaded.name, loaded.sha256) == ("embedded", EMBEDDED_SHA256)
    assert lines[0] == f"Downloading {url}"
    assert len(lines) == 2
    assert "\n" not in lines[1]
    assert "5,163 first names embedded in the package" in lines[1]
    assert url in lines[1]
    return lines[1].partition(f"{url} (")[2].partition("): training on")[0]


# The embedded names


def test_embedded_names_are_those_the_readme_describes() -> None:
    loaded = load_dataset("embedded")
    assert loaded.fingerprint() == {
        "name": "embedded",
        "sha256": EMBEDDED_SHA256,
        "documents": EMBEDDED_COUNT,
        "bytes": 36122,
    }
    readme = (Path(dataset.__file__).parent / "README.md").read_text("utf-8")
    assert EMBEDDED_SHA256 in readme
    assert f"{EMBEDDED_COUNT:,} distinct" in readme


def test_embedded_names_are_sorted_distinct_and_lower_case() -> None:
    documents = load_dataset("embedded").documents
    assert list(documents) == sorted(set(documents))
    assert set("".join(documents)) == set("abcdefghijklmnopqrstuvwxyz")
    assert {"mary", "james", "emma", "zulma"} <= set(documents)


def test_embedded_needs_no_network_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    lines: list[str] = []
    load_dataset("embedded", report=lines.append)
    assert lines == []


# Local files


@pytest.mark.parametrize(
    ("data", "documents"),
    [
        (b"emma\nolivia\n", ("emma", "olivia")),
        (b"emma\nolivia", ("emma", "olivia")),
        (b"emma\r\nolivia\r\n", ("emma", "olivia")),
        (b"emma\rolivia\r", ("emma", "olivia")),
        (b"\n\n  emma \t\n \n\t\nolivia  \n\n", ("emma", "olivia")),
        (b"\xef\xbb\xbfemma\nolivia\n", ("emma", "olivia")),
        (b"b\na\nb\n", ("b", "a", "b")),
        (b"only one", ("only one",)),
        ("zoë\n山田\n\U0001f600\n".encode(), ("zoë", "山田", "\U0001f600")),
        ("a\u2028b\nc\x0cd\x1ce\x85f\u2029g\n".encode(), ("a\u2028b", "c\x0cd\x1ce\x85f\u2029g")),
        (b"nul \x00 inside\n", ("nul \x00 inside",)),
    ],
)
def test_lines_become_documents(tmp_path: Path, data: bytes, documents: tuple[str, ...]) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(data)
    loaded = load_dataset(str(path))
    assert loaded == Dataset(
        str(path), documents, hashlib.sha256(data).hexdigest(), num_bytes=len(data)
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_cut_as_microgpt_py_cuts_them(tmp_path: Path, end: str) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(end.join([" ", " a b ", "", "\u00a0c\u2003", "d\ve", "\x1f", ""]).encode())
    with open(path, encoding="utf-8") as file:
        original = [line.strip() for line in file.read().strip().split("\n") if line.strip()]
    assert list(load_dataset(str(path)).documents) == original


def test_a_relative_path_is_kept_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names").write_text("x\n")
    loaded = load_dataset("./names")
    assert (loaded.name, loaded.documents) == ("./names", ("x",))


def test_a_pipe_is_a_file_too() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(b"emma\nava\n")
    assert load_dataset(f"/dev/fd/{reader}").documents == ("emma", "ava")
    os.close(reader)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty: put one document on each line"),
        (b"\n \r\n\t\n", "has only blank lines: put one document on each line"),
        (b"\xef\xbb\xbf\n", "has only blank lines"),
        (b"emma\nol\xffivia\n", "is not UTF-8 text: byte 0xff at offset 7, line 2;"),
        (b"a\r\nb\rc\xe9\n", "is not UTF-8 text: byte 0xe9 at offset 6, line 3;"),
        (b"cut short \xe5\xb1", "is not UTF-8 text: byte 0xe5 at offset 10, line 1;"),
        (b"surrogate \xed\xa0\x80", "is not UTF-8 text"),
        ("emma\n".encode("utf-16"), "is not UTF-8 text (it looks like UTF-16)"),
    ],
)
def test_unusable_text_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        load_dataset(str(path))
    assert str(caught.value).startswith(f"'{path}' {says}")


def test_paths_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x\n")
    advice = "--data takes a text file, a URL, 'names' or 'embedded'"
    missing, below = str(tmp_path / "missing.txt"), str(tmp_path / "file" / "below")
    for path, message in [
        (missing, f"there is no file {missing!r}: {advice}"),
        ("", f"there is no file '': {advice}"),
        (str(tmp_path), f"{str(tmp_path)!r} is a directory: {advice}"),
        (below, f"cannot read {below!r}: Not a directory"),
        ("a\0b", "cannot read 'a\\x00b': embedded null byte"),
    ]:
        with pytest.raises(DatasetError) as caught:
            load_dataset(path)
        assert str(caught.value) == message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x\n")
    path.chmod(0)
    with pytest.raises(DatasetError, match="Permission denied"):
        load_dataset(str(path))


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with open(path, "wb") as file:
        file.truncate(dataset.MAX_BYTES + 1)  # sparse: takes no space
    with pytest.raises(DatasetError, match="is larger than 1 GiB: use a part of it"):
        load_dataset(str(path))


def test_an_endless_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_BYTES", 1000)
    with pytest.raises(DatasetError, match="'/dev/zero' is larger than 1000 bytes"):
        load_dataset("/dev/zero")


# Downloading the names


def test_names_are_downloaded_once(serve: Callable[[ShardResult], Server], tmp_path: Path) -> None:
    server = serve(whole)
    lines: list[str] = []
    for _ in range(3):
        loaded = load_dataset(
            cache_dir=tmp_path / "own" / "cache",
            names=source(server.url),
            patience=PATIENT,
            report=lines.append,
        )
        assert_is_body(loaded)
    assert server.paths == ["/names.txt"]
    assert lines == [f"Downloading {server.url}"]
    assert [path.name for path in (tmp_path / "own" / "cache").iterdir()] == ["names.txt"]


def test_a_cached_file_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(BODY)
    lines: list[str] = []
    loaded = load_dataset(
        cache_dir=tmp_path, names=source("http://127.0.0.1:1/"), report=lines.append
    )
    assert_is_body(loaded)
    assert lines == []


def test_the_environment_sets_cache_and_mirror(
    serve: Callable[[ShardResult], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(whole)
    monkeypatch.setattr(dataset, "NAMES", source("http://127.0.0.1:1/"))
    monkeypatch.setenv("MICROGPT_NAMES_URL", server.url)
    monkeypatch.setenv("MICROGPT_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert_is_body(load_dataset(patience=PATIENT, report=lambda line: None))
    assert (tmp_path / "elsewhere" / "names.txt").read_bytes() == BODY


def test_the_real_names_are_pinned() -> None:
    pinned = dataset.NAMES
    assert pinned == Source(
        "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt",
        "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        228145,
    )


def test_a_damaged_cached_file_is_downloaded_again(
    serve: Callable[[ShardResult], Server], tmp_path: Path
) -> None:
    server = serve(whole)
    (tmp_path / "names.txt").write_bytes(BODY[:-1])
    lines: list[str] = []
    loaded = load_dataset(
        cache_dir=tmp_path, names=source(server.url), patience=PATIENT, report=lines.append
    )
    assert_is_body(loaded)
    assert "is damaged" in lines[0]
    assert (tmp_path / "names.txt").read_bytes() == BODY


def test_an_unwritable_cache_is_done_without(
    serve: Callable[[ShardResult], Server], tmp_path: Path
) -> None:
    server = serve(whole)
    (tmp_path / "file").write_text("")  # refuses to be a directory, also for root
    lines: list[str] = []
    for _ in range(2):
        loaded = load_dataset(
            cache_dir=tmp_path / "file" / "cache",
            names=source(server.url),
            patience=PATIENT,
            report=lines.append,
        )
        assert_is_body(loaded)
    assert len(server.paths) == 2
    assert "Cannot keep the download" in lines[1]


def test_a_failed_rename_leaves_nothing_behind(
    serve: Callable[[ShardResult], Server], tmp_path: Path
) -> None:
    server = serve(whole)
    (tmp_path / "names.txt").mkdir()
    loaded = load_dataset(
        cache_dir=tmp_path,
        names=source(server.url),
        patience=PATIENT,
        report=lambda line: None,
    )
    assert_is_body(loaded)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_two_processes_at_once(serve: Callable[[ShardResult], Server], tmp_path: Path) -> None:
    both_asked = threading.Barrier(2, timeout=30)

    def together(handler: Handler) -> None:
        both_asked.wait()
        handler.send(BODY)

    server = serve(together)
    program = (
        "import sys; from pathlib import Path; from microgpt.data.dataset import *\n"
        "url, digest, size, cache = sys.argv[1:]\n"
        "names = Source(url, digest, int(size))\n"
        "loaded = load_dataset(names=names, cache_dir=Path(cache), patience=Patience(30, 30))\n"
        "print(loaded.name, len(loaded.documents))\n"
    )
    wanted = source(server.url)
    arguments = [wanted.url, wanted.sha256, str(wanted.num_bytes), str(tmp_path / "shared")]
    processes = [
        subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [b"names 5000\n"] * 2
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["names.txt"]
    assert (tmp_path / "shared" / "names.txt").read_bytes() == BODY


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_sees_a_progress_bar(serve: Callable[[ShardResult], Server]) -> None:
    server = serve(whole)
    program = (
        "import sys; from microgpt.data.dataset import *\n"
        "names = Source(sys.argv[1], sys.argv[2], int(sys.argv[3]))\n"
        "assert load_dataset(names=names, patience=Patience(30, 30)).name == 'names'\n"
    )
    wanted = source(server.url)
    terminal, end = os.openpty()
    subprocess.run(
        [sys.executable, "-c", program, wanted.url, wanted.sha256, str(wanted.num_bytes)],
        stderr=end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        timeout=60,
        check=True,
    )
    os.close(end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "Downloading names.txt" in shown
    assert "43.9/43.9 kB" in shown


# No names: the embedded ones, soon


def test_other_bytes_than_expected(serve: Callable[[ShardResult], Server], tmp_path: Path) -> None:
    other = b"x" + BODY[1:]
    server = serve(lambda handler: handler.send(other))
    reason = fallback_reason(server.url, PATIENT)
    assert reason == "what came is not the expected file: its SHA-256 differs"
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cached_file_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"damaged")
    lines: list[str] = []
    loaded = load_dataset(
        cache_dir=tmp_path,
        names=source("http://127.0.0.1:1/"),
        patience=HASTY,
        report=lines.append,
    )
    assert loaded.name == "embedded"
    assert (tmp_path / "names.txt").read_bytes() == b"damaged"


def test_a_captive_portal(serve: Callable[[ShardResult], Server]) -> None:
    page = b"<html>Please log in</html>"
    server = serve(lambda handler: handler.send(page, "text/html; charset=utf-8"))
    assert fallback_reason(server.url, PATIENT).startswith("a web page came, not a text file")


def test_more_than_the_file(serve: Callable[[ShardResult], Server]) -> None:
    server = serve(lambda handler: handler.send(BODY + b"x\n"))
    assert fallback_reason(server.url, PATIENT) == "the file is larger than 42.86 KiB"


def test_less_than_promised(serve: Callable[[ShardResult], Server]) -> None:
    def short(handler: Handler) -> None:
        handler.send(BODY[:100], length=len(BODY))
        handler.close_connection = True

    assert fallback_reason(serve(short).url, PATIENT) == "the transfer broke off"


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")]
)
def test_an_http_error(serve: Callable[[ShardResult], Server], status: int, reason: str) -> None:
    server = serve(lambda handler: handler.send_error(status))
    assert fallback_reason(server.url, PATIENT) == f"the server answered {reason}"


def test_a_redirect_without_end(serve: Callable[[ShardResult], Server]) -> None:
    def elsewhere(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    assert "redirects" in fallback_reason(serve(elsewhere).url, PATIENT)


def test_a_server_that_is_not_http(serve: Callable[[ShardResult], Server]) -> None:
    server = serve(lambda handler: None)

    def noise(handler: Handler) -> None:
        handler.wfile.write(b"\x00\xff garbage\r\n\r\n")
        handler.close_connection = True

    server.answer = noise
    assert "garbage" in fallback_reason(server.url, PATIENT)


def test_a_refused_port() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/names.txt"
        assert fallback_reason(url, PATIENT) == "Connection refused"


def test_a_connection_nobody_accepts() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/names.txt"
        assert fallback_reason(url) == "no answer within 0.3 s"


def test_a_silent_server(serve: Callable[[ShardResult], Server]) -> None:
    def silent(handler: Handler) -> None:
        handler.server.released.wait()

    assert fallback_reason(serve(silent).url) == "no answer within 0.3 s"


def test_silence_after_the_beginning(serve: Callable[[ShardResult], Server]) -> None:
    def stuck(handler: Handler) -> None:
        handler.send(BODY[:20_000], length=len(BODY))
        handler.server.released.wait()

    assert fallback_reason(serve(stuck).url).startswith("too slow: 16 KiB in ")


@pytest.mark.parametrize("piece", [b"a\n", b"a\n" * 2048])
def test_a_trickle(serve: Callable[[ShardResult], Server], piece: bytes) -> None:
    def trickle(handler: Handler) -> None:
        handler.send(b"", length=len(BODY))
        while not handler.server.released.wait(0.1):
            handler.wfile.write(piece)

    reason = fallback_reason(serve(trickle).url)
    assert reason.startswith(("no answer within 0.3 s", "too slow: "))


def test_steady_and_still_too_slow(serve: Callable[[ShardResult], Server]) -> None:
    """Each piece is large enough for ``stall``, so the limit for the whole has to act."""

    def steady(handler: Handler) -> None:
        handler.send(b"", length=10**6)
        while not handler.server.released.wait(0.1):
            handler.wfile.write(b"a\n" * 10_000)

    url = serve(steady).url
    lines: list[str] = []
    loaded = load_dataset(
        names=Source(url, "0" * 64, 10**6),
        patience=Patience(stall=5.0, names=0.5),
        report=lines.append,
    )
    assert loaded.name == "embedded"
    assert "(too slow: " in lines[-1]
    assert " in 0.5 s)" in lines[-1]


@pytest.mark.parametrize(
    ("piece", "total", "failure"),
    [
        (16 * 1024, 1000.0, None),  # every 16 KiB within 4 of 5 seconds, for 40 seconds
        # 30 KiB after 4 s pass the first milestone, 45 KiB after 8 s miss the next one, 46 KiB.
        (15 * 1024, 1000.0, "too slow: 45 KiB in 9 s"),
        (16 * 1024, 21.0, "too slow: 96 KiB in 21 s"),
    ],
)
def test_patience_under_a_virtual_clock(
    monkeypatch: pytest.MonkeyPatch, piece: int, total: float, failure: str | None
) -> None:
    """Four seconds pass with each piece; the next one always waits already."""
    now = 100.0

    def tick(received: int, length: int | None) -> None:
        nonlocal now
        now += 4.0

    items: queue.SimpleQueue[download._Item] = queue.SimpleQueue()
    for item in [*[bytes(piece)] * 10, None]:
        items.put(item)
    monkeypatch.setattr(download, "time", SimpleNamespace(monotonic=lambda: now))
    if failure is None:
        assert download._collect(items, tick, 5.0, total, 2**20) == bytes(10 * piece)
    else:
        with pytest.raises(download.DownloadFailedError, match=failure):
            download._collect(items, tick, 5.0, total, 2**20)


def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    reason = fallback_reason("http://names.invalid/names.txt", PATIENT)
    assert reason == "Name or service not known"


def test_a_name_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*args: object, **kwargs: object) -> None:
        released.wait()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    reason = fallback_reason("http://names.invalid/names.txt")
    released.set()
    assert reason == "no answer within 0.3 s"


def test_a_hanging_name_server_does_not_keep_the_process() -> None:
    program = (
        "import socket, threading; from microgpt.data.dataset import *\n"
        "socket.getaddrinfo = lambda *args, **kwargs: threading.Event().wait()\n"
        "names = Source('http://names.invalid/', '0' * 64, 1)\n"
        "print(load_dataset(names=names, patience=Patience(0.2, 1)).name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=30, check=True
    )
    assert done.stdout == b"embedded\n"
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("url", ["names.txt", "http://", "http://[::1", "ftp://127.0.0.1/x"])
def test_a_mirror_that_is_no_url(url: str) -> None:
    assert fallback_reason(url, PATIENT)


# Any URL


def test_a_url_is_downloaded_once(serve: Callable[[ShardResult], Server], tmp_path: Path) -> None:
    server = serve(lambda handler: handler.send(handler.path.encode() + b"\r\nb\r\n"))
    lines: list[str] = []
    for _ in range(2):
        loaded = load_dataset(server.url, report=lines.append)
        assert (loaded.name, loaded.documents) == (server.url, ("/names.txt", "b"))
    assert lines[0] == f"Downloading {server.url}"
    assert lines[1].startswith(f"Using the copy of {server.url} in {tmp_path / 'cache'}")
    assert len(lines) == 2
    assert load_dataset(server.url + "?v=2", report=lines.append).documents[0] == "/names.txt?v=2"
    assert server.paths == ["/names.txt", "/names.txt?v=2"]


def test_a_url_that_fails_is_an_error_not_a_fallback(
    serve: Callable[[ShardResult], Server],
) -> None:
    server = serve(lambda handler: handler.send_error(404))
    with pytest.raises(DatasetError) as caught:
        load_dataset(server.url, report=lambda line: None)
    assert str(caught.value) == f"cannot download {server.url}: the server answered 404 Not Found"


@pytest.mark.parametrize("url", ["http://", "https://", "HTTP://[::1", "http://127.0.0.1:99999/"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(url, report=lambda line: None)
    assert str(caught.value).startswith(f"cannot download {url}: ")


def test_a_silent_url(serve: Callable[[ShardResult], Server]) -> None:
    def silent(handler: Handler) -> None:
        handler.server.released.wait()

    with pytest.raises(DatasetError, match="no answer"):
        load_dataset(serve(silent).url, patience=HASTY, report=lambda line: None)


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", "text/plain", "is empty"),
        (b"\xff", "text/plain", "is not UTF-8 text"),
        (b"<html>", "text/html", "a web page came, not a text file"),
    ],
)
def test_what_a_url_cannot_be_is_refused_and_not_kept(
    serve: Callable[[ShardResult], Server], tmp_path: Path, body: bytes, kind: str, says: str
) -> None:
    server = serve(lambda handler: handler.send(body, kind))
    with pytest.raises(DatasetError, match=says):
        load_dataset(server.url, report=lambda line: None)
    assert not (tmp_path / "cache").exists()


def test_a_url_above_the_limit_is_refused_by_its_length(
    serve: Callable[[ShardResult], Server],
) -> None:
    server = serve(lambda handler: handler.send(b"a\n", length=2**40))
    with pytest.raises(DatasetError, match="the file is larger than 1 GiB"):
        load_dataset(server.url, report=lambda line: None)


def test_an_interrupt_ends_a_download_at_once(serve: Callable[[ShardResult], Server]) -> None:
    """Ctrl-C reaches the caller, which waits without holding it back."""

    def silent(handler: Handler) -> None:
        asked.set()
        handler.server.released.wait()

    asked = threading.Event()
    server = serve(silent)
    program = (
        "import signal, sys; from microgpt.data.dataset import *\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "load_dataset(sys.argv[1])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, server.url], stderr=subprocess.PIPE, text=True
    )
    assert asked.wait(30)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=30)[1]
    assert time.monotonic() - start < 3
    assert "KeyboardInterrupt" in error


def test_importing_is_cheap() -> None:
    heavy = "{'requests', 'pooch', 'rich', 'platformdirs', 'numpy', 'zmq', 'urllib3'}"
    program = f"import sys, microgpt.data.dataset; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=30, check=True
    )
    assert done.stdout == b"[]\n"

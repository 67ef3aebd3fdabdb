"""Who may do something to a run by its page: this page alone, whatever a browser is made to do."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.page.control import Throttle
from lab.page.launcher import Launcher as LauncherOfPage
from tests.lab.page.asking import Answer, Asker, request
from tests.lab.page.serving import Served, served
from tests.processes import ROOT

PAUSE = b'{"verb": "pause"}'
TOKEN = "a-word-that-is-long-enough"  # noqa: S105  # of a test


@dataclass
class Launcher:
    """What the page asks of its launcher; each request is answered with its number."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        with self.ours, self.ours.makefile("rb") as lines:
            for line in lines:
                asked = json.loads(line)
                self.lines.append({name: asked[name] for name in asked if name != "id"})
                done = asked.get("worker") != "worker-9"
                told = {"text": "it is done"} if done else {"error": "there is none"}
                self.ours.sendall(
                    json.dumps({"id": asked["id"], "ok": done, **told}).encode() + b"\n"
                )


@pytest.fixture(scope="module")
def launcher() -> Launcher:
    return Launcher()


@pytest.fixture(scope="module")
def page(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("run")
    descriptor = launcher.theirs.fileno()
    with served(place, "--control", str(descriptor), passed=[descriptor]) as page:
        yield page


@pytest.fixture
def asker(page: Served, launcher: Launcher) -> Asker:
    launcher.lines.clear()
    return Asker(page)


def test_what_the_page_asks_for_is_done(asker: Asker, launcher: Launcher) -> None:
    assert asker.does("pause") == "it is done"
    assert asker.does("slow", "worker-2", 4) == "it is done"
    assert launcher.lines == [{"verb": "pause"}, {"verb": "slow", "worker": "worker-2", "value": 4}]
    charset = asker.post(PAUSE, Content_Type="application/json; charset=utf-8")
    assert charset.status == 200
    tls = asker.post(PAUSE, Origin=f"https://{asker.host}")
    assert tls.status == 200, "a proxy in front of it may speak TLS"


def test_the_cookie_is_for_this_page_alone(asker: Asker) -> None:
    name, _, rest = asker.set_cookie.partition("=")
    assert name == f"microgpt-control-{asker.page.address[1]}"
    assert "HttpOnly" in rest
    assert "SameSite=strict" in rest
    answer = request(asker.page, "GET", "/", {})
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers


Change = Callable[[Asker], Answer]

FOREIGN: dict[str, tuple[Change, int]] = {
    "another page": (lambda a: a.post(PAUSE, Origin="http://evil.example"), 403),
    "another port": (lambda a: a.post(PAUSE, Origin="http://127.0.0.1:1"), 403),
    "a page without an origin": (lambda a: a.post(PAUSE, Origin="null"), 403),
    "no origin": (lambda a: a.post(PAUSE, Origin=None), 403),
    "a browser that knows it is of another site": (
        lambda a: a.post(PAUSE, Sec_Fetch_Site="cross-site"), 403,
    ),
    "a form": (
        lambda a: a.post(b"verb=pause", Content_Type="application/x-www-form-urlencoded"), 415,
    ),
    "a form of text": (lambda a: a.post(PAUSE, Content_Type="text/plain"), 415),
    "no type": (lambda a: a.post(PAUSE, Content_Type=None), 415),
    "no word": (lambda a: a.post(PAUSE, X_Control_Token=None), 403),
    "another word": (lambda a: a.post(PAUSE, X_Control_Token="x" * 32), 403),
    "no letters": (lambda a: a.post(PAUSE, **{"X_Control_Token": "\xe9"}), 403),
    "no cookie": (lambda a: a.post(PAUSE, Cookie=None), 403),
    "another cookie": (
        lambda a: a.post(PAUSE, Cookie=f"microgpt-control-{a.page.address[1]}=x"), 403,
    ),
    "the cookie of another port": (
        lambda a: a.post(PAUSE, Cookie=a.headers["Cookie"].replace("control-", "control-1")), 403,
    ),
    "a name that points here": (
        lambda a: a.post(PAUSE, Host="evil.example", Origin="http://evil.example"), 421,
    ),
    "GET": (lambda a: request(a.page, "GET", "/api/control?verb=pause", a.headers), 200),
    "PUT": (lambda a: request(a.page, "PUT", "/api/control", a.headers, PAUSE), 405),
    "a large body": (lambda a: a.post(PAUSE + b" " * 5000), 413),
    "garbage": (lambda a: a.post(b"{"), 400),
    "deep garbage": (lambda a: a.post(b"[" * 2000), 400),
    "no object": (lambda a: a.post(b"[]"), 400),
    "no text": (lambda a: a.post(b"\xff\xfe"), 400),
    "no verb": (lambda a: a.post(b"{}"), 400),
    "an unknown verb": (lambda a: a.post(b'{"verb": "explode"}'), 400),
    "more than is known": (lambda a: a.post(b'{"verb": "pause", "id": 1}'), 400),
    "no number": (lambda a: a.post(b'{"verb": "learning_rate", "value": NaN}'), 400),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_nothing_else_is_done(asker: Asker, launcher: Launcher, kind: str) -> None:
    send, status = FOREIGN[kind]
    answer = send(asker)
    assert answer.status == status
    if status >= 400 and status != 405:
        assert list(answer.plain) == ["error"]
        assert "\n" not in answer.plain["error"]
    assert launcher.lines == []


def test_an_unknown_worker_is_the_launchers_to_refuse(asker: Asker) -> None:
    answer = asker.post(b'{"verb": "kill", "worker": "worker-9"}')
    assert (answer.status, answer.plain) == (409, {"error": "there is none"})


def test_the_word_is_not_for_other_sites(page: Served) -> None:
    answer = request(page, "GET", "/api/control", {"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def test_with_a_token_only_those_who_know_it_get_the_word(tmp_path: Path) -> None:
    launcher = Launcher()
    descriptor = launcher.theirs.fileno()
    flags = ("--control", str(descriptor), "--host", "0.0.0.0")  # noqa: S104
    with served(tmp_path, *flags, passed=[descriptor], MICROGPT_PAGE_TOKEN=TOKEN) as page:
        assert page.url.endswith(f"/?token={TOKEN}")
        assert request(page, "GET", "/", {}).status == 200, "anybody may look"
        refused = request(page, "GET", "/api/control", {})
        assert refused.status == 403
        assert refused.plain["error"].startswith("open the address that was printed")
        wrong = request(page, "GET", "/?token=another-word", {})
        assert (wrong.status, "set-cookie" in wrong.headers) == (303, False)
        entered = request(page, "GET", f"/?token={TOKEN}", {})
        assert (entered.status, entered.headers["location"]) == (303, "/")
        asker = Asker(page, entered.headers["set-cookie"].partition(";")[0])
        assert asker.does("pause") == "it is done"
        without = {**asker.headers, "Cookie": ""}
        assert request(page, "POST", "/api/control", without, PAUSE).status == 403


def test_so_many_in_a_second() -> None:
    throttle = Throttle(20)
    assert [throttle.allows(7.0 + at / 100) for at in range(21)] == [True] * 20 + [False]
    assert throttle.allows(8.1)


def test_an_answer_is_for_who_has_asked() -> None:
    async def ask() -> tuple[bool, str]:
        launcher = LauncherOfPage(theirs.detach())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(launcher.ask({"verb": "pause"}), 0.2)
        ours.sendall(
            b'{"id": 1, "ok": true, "text": "late"}\n{"id": 2, "ok": false, "error": "no"}\n'
        )
        return await launcher.ask({"verb": "save"})

    ours, theirs = socket.socketpair()
    with ours:
        assert asyncio.run(ask()) == (False, "no")


def test_a_launcher_that_is_gone_is_told(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    with served(tmp_path, "--control", str(descriptor), passed=[descriptor]) as page:
        theirs.close()
        ours.close()
        for _ in range(2):
            answer = Asker(page).post(PAUSE)
            assert answer.status == 409
            assert answer.plain["error"].startswith("the launcher does not answer any more")


def test_without_control_there_is_nothing_of_it(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        assert request(page, "GET", "/api/control", {}).status == 404
        assert request(page, "POST", "/api/control", {}, PAUSE).status == 404
        assert "set-cookie" not in request(page, "GET", "/?token=x", {}).headers


def test_no_token_where_others_can_reach_the_page(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        host = ["--host", "0.0.0.0"]  # noqa: S104  # that is what is tried
        flags = [*host, "--port", "0", "--control", str(theirs.fileno())]
        done = subprocess.run(
            [sys.executable, "-m", "lab.page", str(tmp_path), *flags], cwd=ROOT, check=False,
            pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: --control where others can reach the page needs --page-token\n"

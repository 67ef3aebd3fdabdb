"""Who may do something to a run by its page, and how: ``/api/control``.

A browser sends requests for any page that it shows, with the cookies of the addressee. So a request
must come from this very page: its ``Origin`` is ours, it is JSON (which a form cannot send), and it
has the word in a header that is also in a cookie, which no other page can read or send
(``SameSite=Strict``). The page gets the word by a request whose answer no other page may read.
Where others than this machine can reach the page, the cookie is only given to who knows the page's
token, which the printed address has.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from lab.launch.requests import MOST_LINE, RefusedError, read_request
from lab.page.launcher import Launcher
from lab.page.plain_json import PlainResponse
from microgpt.support.cli import UserError

HEADER = "x-control-token"
BODY_SECONDS = 5.0
MOST_BODY = MOST_LINE // 2  # bytes; as a line for the launcher it may be longer
MOST_PER_SECOND = 20


def make_control(descriptor: int | None, page_token: str, *, alone: bool) -> Control | None:
    """Control by the socket of the launcher, if there is one. Raises UserError.

    ``alone``: nobody but this machine can reach the page.
    """
    if descriptor is None:
        return None
    if not alone and not page_token:
        raise UserError("--control where others can reach the page needs --page-token")
    try:
        return Control(Launcher(descriptor), page_token)
    except (OSError, OverflowError) as error:
        raise UserError(f"--control {descriptor} is no socket: {error}") from error


class Control:
    """What viewers ask for goes to ``launcher``; ``page_token``: what they must know, if anything.

    Its routes are the only ones that change anything.
    """

    def __init__(self, launcher: Launcher, page_token: str = "") -> None:
        self._launcher, self._page_token = launcher, page_token
        self._word = secrets.token_urlsafe(24)
        self._throttle = Throttle(MOST_PER_SECOND)

    def routes(self) -> list[Route]:
        """Those of ``/api/control``."""
        return [
            Route("/api/control", self.word, methods=["GET"]),
            Route("/api/control", self.take, methods=["POST"]),
        ]

    # --- who may ---------------------------------------------------------------------------------

    def enter(self, request: Request) -> Response | None:
        """The answer to who opens the printed address: a cookie, and the address without token.

        None if the request has no token.
        """
        given = request.query_params.get("token")
        if given is None:
            return None
        response = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
        if self._page_token and _same(given, self._page_token):
            self._give_cookie(request, response)
        return response

    async def word(self, request: Request) -> Response:
        """The word that requests must have."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return _error("this is for the page itself", 403)
        if self._page_token and not self._has_cookie(request):
            text = "open the address that was printed, with its token, to control the run"
            return _error(text, 403)
        response = PlainResponse({"token": self._word})
        self._give_cookie(request, response)
        return response

    def _cookie(self, request: Request) -> str:
        """Its name. Browsers do not keep those of other ports apart."""
        return f"microgpt-control-{request.url.port or 80}"

    def _give_cookie(self, request: Request, response: Response) -> None:
        name = self._cookie(request)
        response.set_cookie(name, self._word, path="/", httponly=True, samesite="strict")

    def _has_cookie(self, request: Request) -> bool:
        return _same(request.cookies.get(self._cookie(request), ""), self._word)

    def _refusal(self, request: Request) -> Response | None:
        """Why a request is not even read; None if it is."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin", "")
        if origin not in (f"http://{host}", f"https://{host}"):
            return _error("requests of other pages are refused", 403)
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return _error("requests of other pages are refused", 403)
        kind, _, _ = request.headers.get("content-type", "").partition(";")
        if kind.strip().lower() != "application/json":
            return _error("a request is application/json", 415)
        if not (self._has_cookie(request) and _same(request.headers.get(HEADER, ""), self._word)):
            return _error("a request needs the word of this page: load it anew", 403)
        return None

    # --- what is asked for -----------------------------------------------------------------------

    async def take(self, request: Request) -> Response:
        """A request: done, or refused in one sentence."""
        if refusal := self._refusal(request):
            return refusal
        if not self._throttle.allows(time.monotonic()):
            return _error("too much is asked for at once", 429)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return _error("the request does not come", 408)
        if body is None:
            return _error(f"a request has at most {MOST_BODY} bytes", 413)
        try:
            plain = json.loads(body)
            wanted = read_request(plain)
        except (ValueError, RecursionError):
            return _error("the request is no JSON", 400)
        except RefusedError as error:
            return _error(str(error), 400)
        told: dict[str, Any] = {"verb": wanted.verb.value}
        told |= {name: plain[name] for name in ("worker", "value") if name in plain}
        done, text = await self._launcher.ask(told)
        return PlainResponse({"text": text}) if done else _error(text, 409)


class Throttle:
    """Lets through ``most`` requests in each second."""

    def __init__(self, most: int) -> None:
        self._most, self._second, self._number = most, -1, 0

    def allows(self, now: float) -> bool:
        """Whether one more is let through at a time of any steady clock, in seconds."""
        if int(now) != self._second:
            self._second, self._number = int(now), 0
        self._number += 1
        return self._number <= self._most


async def _body(request: Request) -> bytes | None:
    """That of a request; None if it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            return None
    return body


def _error(text: str, status: int) -> Response:
    return PlainResponse({"error": text}, status)


def _same(given: str, ours: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), ours.encode())

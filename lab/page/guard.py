"""What every request must fulfil and every answer carries, against pages of others.

A page of a stranger that has its name point to this machine (DNS rebinding) could read what is
served here; but its requests carry its name. No header allows other origins to read anything.
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.page.plain_json import PlainResponse

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Asks ``app`` if the Host of a request is one of ours; see ``is_ours``."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                never = scope["path"].startswith("/api") or scope["path"] == "/metrics"
                headers["Cache-Control"] = "no-store" if never else "no-cache"
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if is_ours(host, self._hosts):
            await self._app(scope, receive, send_guarded)
        else:
            text = "this page is not served under that name: start it with --host NAME"
            await PlainResponse({"error": text}, 421)(scope, receive, send_guarded)


def is_ours(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header has the name of this machine's loopback, a number, or one of ours."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, "0"
    if not (port.isascii() and port.isdecimal()):
        return False
    name = name.lower().removesuffix(".")
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True

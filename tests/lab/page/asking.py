"""Asks the page of a run for control, as its own buttons do, or as somebody else would."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple

from tests.lab.page.serving import Served
from tests.processes import PATIENCE


class Answer(NamedTuple):
    """``plain``: the JSON of it, if it is some."""

    status: int
    headers: dict[str, str]
    plain: Any


def request(
    page: Served, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> Answer:
    """One request, on a connection of its own."""
    connection = http.client.HTTPConnection(*page.address, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    told = {name.lower(): value for name, value in response.getheaders()}
    is_json = told.get("content-type") == "application/json"
    return Answer(response.status, told, json.loads(data) if is_json else data)


class Asker:
    """A page in a browser that has got its word and its cookie. ``headers`` are what it sends."""

    def __init__(self, page: Served, cookie: str = "") -> None:
        self.page = page
        self.host = f"{page.address[0]}:{page.address[1]}"
        answer = request(page, "GET", "/api/control", {"Cookie": cookie} if cookie else {})
        assert answer.status == 200, answer
        self.set_cookie = answer.headers["set-cookie"]
        self.headers = {
            "Origin": f"http://{self.host}",
            "Content-Type": "application/json",
            "Cookie": self.set_cookie.partition(";")[0],
            "X-Control-Token": answer.plain["token"],
        }

    def post(self, body: bytes, **changes: str | None) -> Answer:
        """A request with some headers changed, or left out."""
        named = {name.replace("_", "-"): value for name, value in changes.items()}
        headers = {**self.headers, **named}
        kept = {name: value for name, value in headers.items() if value is not None}
        return request(self.page, "POST", "/api/control", kept, body)

    def does(self, verb: str, worker: str | None = None, value: float | None = None) -> str:
        """Ask for it; what is said of it."""
        plain: dict[str, Any] = {"verb": verb}
        plain |= {} if worker is None else {"worker": worker}
        plain |= {} if value is None else {"value": value}
        answer = self.post(json.dumps(plain).encode())
        assert answer.status == 200, answer
        return str(answer.plain["text"])

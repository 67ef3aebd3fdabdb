"""``GET /api/spans`` and ``GET /api/round/EPOCH/ROUND``: what the stream does not keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from lab.page.feed import Feed
from lab.page.plain_json import PlainResponse
from lab.page.record_search import NotRecordedError
from lab.page.rounds import round_tree
from lab.page.windows import spans_between

AT_ONCE = 2  # questions that are looked up; others wait
MOST_DIGITS = 18


class Past:
    """Answers questions about the run that ``feed`` tells of."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._turn = anyio.Semaphore(AT_ONCE)

    async def spans(self, request: Request) -> Response:
        """The shards of a window: ``?begin=SECONDS&end=SECONDS``, since 1970."""
        begin, end = (_seconds(request.query_params.get(name)) for name in ("begin", "end"))
        if begin is None or end is None or begin > end:
            return _refused("begin and end must be seconds since 1970, the end not before", 400)
        follower = self._feed.follower
        return await self._look(lambda: spans_between(follower.path, follower.epochs, begin, end))

    async def round(self, request: Request) -> Response:
        """The tree of a round."""
        epoch, number = (request.path_params[name] for name in ("epoch", "round"))
        if not all(text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS
                   for text in (epoch, number)):  # fmt: skip
            return _refused("epoch and round must be whole numbers", 400)
        follower = self._feed.follower
        summed = follower.head is not None and follower.head.summed
        return await self._look(
            lambda: round_tree(
                follower.path, follower.epochs, int(epoch), int(number), summed=summed
            )
        )

    async def _look(self, question: Callable[[], dict[str, Any]]) -> Response:
        await self._feed.catch_up()
        async with self._turn:
            try:
                return PlainResponse(await run_in_threadpool(question))
            except NotRecordedError as error:
                return _refused(str(error), 404)


def _refused(text: str, status: int) -> Response:
    return PlainResponse({"error": text}, status)


def _seconds(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None

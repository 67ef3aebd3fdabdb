"""The page's addresses: files, the stream of messages, and what is asked for by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lab.page.anatomy import Anatomist
from lab.page.charts import charts
from lab.page.control import Control
from lab.page.feed import MOST_VIEWERS, Feed
from lab.page.guard import Guard
from lab.page.past import Past
from lab.page.plain_json import PlainResponse
from lab.page.prometheus import metrics
from lab.page.sampler import sample

STATIC = Path(__file__).parent / "static"
PING_SECONDS = 10
SEND_SECONDS = 30.0  # a viewer that takes nothing for so long is left


async def index(request: Request) -> Response:
    """The page; to who comes with a token, the page without it in the address."""
    control: Control | None = request.app.state.control
    if control is not None and (response := control.enter(request)):
        return response
    return FileResponse(STATIC / "index.html")


async def stream(request: Request) -> Response:
    """Messages as they come; see ``Feed``."""
    feed: Feed = request.app.state.feed
    if feed.viewers >= MOST_VIEWERS:
        return PlainResponse({"error": f"{MOST_VIEWERS} are watching already"}, 503)
    last = request.headers.get("last-event-id") or request.query_params.get("last")
    return EventSourceResponse(
        feed.stream(last),
        sep="\n",
        ping=PING_SECONDS,
        ping_message_factory=lambda: ServerSentEvent("{}", event="ping"),
        send_timeout=SEND_SECONDS,
    )


def make_app(feed: Feed, hosts: frozenset[str], control: Control | None = None) -> Starlette:
    """The application. ``hosts``: names by which it may be called, beside loopback ones.

    ``control``: None where nothing can be done to the run.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work(feed)) for work in (Feed.run, sample)]
        for task in tasks:
            feed.watch(task)
        yield
        for task in tasks:
            task.cancel()

    past = Past(feed)
    anatomist = Anatomist(feed.follower.path)
    app = Starlette(
        routes=[
            Route("/", index),
            Route("/charts.js", charts),
            Route("/metrics", metrics),
            Route("/api/stream", stream),
            Route("/anatomy", anatomist.page),
            Route("/api/spans", past.spans),
            Route("/api/round/{epoch}/{round}", past.round),
            Route("/api/anatomy", anatomist.anatomy),
            Route("/api/checkpoints", anatomist.checkpoints),
            *(control.routes() if control else ()),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        lifespan=lifespan,
    )
    app.state.feed, app.state.control = feed, control
    return app

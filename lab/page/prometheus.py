"""``GET /metrics``: how a run stands, in the text format that Prometheus reads.

Sums that a run which goes back to a checkpoint makes smaller are counters all the same: Prometheus
takes that for a restart, which it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from lab.page.board import Board
from lab.page.feed import Feed
from lab.page.roster import MOST_THERE
from lab.page.standing import PHASES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(request: Request) -> Response:
    """The newest numbers; what was written down until now is read first."""
    feed: Feed = request.app.state.feed
    await feed.catch_up()
    text = await feed.on_board(lambda: metrics_of(feed.follower.board))
    return Response(text, media_type=CONTENT_TYPE)


def metrics_of(board: Board) -> bytes:
    """The text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(board))
    return generate_latest(registry)


class _Numbers(Collector):
    """What a board has, as metrics."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """All of them; of what is not known yet there is no line."""
        yield from self._run()
        yield from self._steps()
        yield from self._workers()

    def _run(self) -> Iterator[Metric]:
        run, standing = self._board.run, self._board.standing
        names = {name: str(run.get(name, "")) for name in ("id", "name", "strategy", "promise")}
        yield InfoMetricFamily("microgpt_run", "What is trained.", names)
        phase = standing.phase(self._board.roster.ready)
        states = GaugeMetricFamily("microgpt_phase", "1 for the run's phase.", labels=["phase"])
        for name in PHASES:
            states.add_metric([name], float(name == phase))
        yield states
        yield _gauge("microgpt_steps", "Updates done.", standing.step)
        yield _gauge("microgpt_steps_planned", "Updates that there are to be.", standing.steps)
        if standing.checkpoint is not None:
            step = standing.checkpoint[0]
            yield _gauge("microgpt_checkpoint_steps", "Updates in the newest checkpoint.", step)

    def _steps(self) -> Iterator[Metric]:
        last = self._board.series.last
        if last is None:
            return
        yield _gauge("microgpt_loss_nats", "Mean loss of the newest batch, per token.", last.loss)
        if (validation := self._board.last_validation) is not None:
            about = "Mean loss of the held-out documents, per token."
            yield _gauge("microgpt_validation_loss_nats", about, validation)
        for name, about, value in (
            ("documents", "Documents whose gradients were used.", last.documents),
            ("step_seconds", "Time worked on steps.", last.seconds),
            ("sent_bytes", "Sent to workers.", last.sent),
            ("received_bytes", "Received from workers.", last.received),
        ):
            yield CounterMetricFamily(f"microgpt_{name}", about, value)

    def _workers(self) -> Iterator[Metric]:
        roster = self._board.roster
        there = roster.there
        states = GaugeMetricFamily("microgpt_workers", "Workers by state.", labels=["state"])
        counts = Counter(member.state for member in there)
        for state in ("joining", "ready"):
            states.add_metric([state], counts[state])
        yield states
        labels = ["worker", "name"]
        families: dict[str, Metric] = {}
        for name, about in (
            ("documents", "Documents that it has answered."),
            ("computing_seconds", "Time in its engine."),
            ("busy_seconds", "Time in which it had work."),
            ("sent_bytes", "Sent to it."),
            ("received_bytes", "Received from it."),
        ):
            whole = f"microgpt_worker_{name}"
            families[name] = CounterMetricFamily(whole, about, labels=labels)
        for member in there[:MOST_THERE]:
            label = dict(zip(labels, (str(member.lane.number), member.name), strict=True))
            values: dict[str, float] = {}
            documents = roster.counted(member)
            if documents is not None and member.totals is not None:
                values["documents"] = documents
                values["computing_seconds"] = member.totals.computing
                values["busy_seconds"] = member.totals.busy
            if member.pulse is not None:
                values["sent_bytes"] = member.pulse.bytes_sent
                values["received_bytes"] = member.pulse.bytes_received
            for name, value in values.items():
                families[name].add_sample(f"microgpt_worker_{name}_total", label, value)
        yield from families.values()


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value)

"""The few things of Ray that are used. The only module that imports Ray; it takes a second or two.

Ray moves Python objects among its own nodes by pickle: whoever may use a Ray cluster can run code
on it anyway. The coordinator hears nothing of it: workers reach it as everywhere, with keys.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of our own tells nobody

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.util import list_named_actors

from lab.launch.launchers.base import WorkerKeys
from lab.launch.launchers.ray_pool import Dead, Unavailable
from lab.launch.launchers.ray_worker import Report, WorkerActor
from microgpt.support.cli import UserError, printable
from microgpt.support.invocation import ROOT

LOCAL = "local"
NAMESPACE = "microgpt"
#: What workers run goes along with them, so that nodes need no more than the packages of others.
PACKAGES = ("microgpt", "worker", "lab")
EXCLUDED = ("__pycache__", "static")
LOCAL_STORE = 80 << 20  # bytes for objects, of which there are none; Ray wants at least 75 MB
#: A question can be asked while another one waits, and so can a worker be sent home.
THREADS = 4
MOST_WORDS = 500  # letters of an error of Ray's


class RayCluster:
    """A connection to a cluster, as one of its drivers; what it starts ends with it.

    ``address``: ``auto``, ``HOST:PORT``, or ``local`` for a cluster of our own on this machine with
    so many ``cpus``, whose files are in ``folder``. Raises UserError.
    """

    def __init__(self, address: str, *, cpus: int, folder: str) -> None:
        own: dict[str, Any] = {}
        if address == LOCAL:
            os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 is for shared machines
            own = {
                "num_cpus": cpus, "object_store_memory": LOCAL_STORE,
                "include_dashboard": False, "_temp_dir": folder,
            }  # fmt: skip
        try:
            self._context = ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={
                    "py_modules": [str(ROOT / name) for name in PACKAGES],
                    "excludes": [*EXCLUDED],
                },
                **own,
            )
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise UserError(f"no Ray cluster at {address}: {one_line(error)}") from error
        self._actor = ray.remote(WorkerActor)
        self._asked: dict[Any, int] = {}
        self._leaving: list[Any] = []

    @property
    def address(self) -> str:
        """Where others find the cluster: HOST:PORT."""
        return str(self._context.address_info["gcs_address"])

    def cpus(self) -> tuple[float, float]:
        """How many processors the cluster has, by its own count, and how many are free."""
        counts = ray.cluster_resources(), ray.available_resources()
        there, free = (float(count.get("CPU", 0.0)) for count in counts)
        return there, free

    def has_us(self) -> bool:
        """Whether the node that this driver is connected to lives.

        If it does not, Ray ends all that the driver has started, and whatever it starts anew.
        """
        ours = self._context.address_info["node_id"]
        return any(node["NodeID"] == ours and node["Alive"] for node in ray.nodes())

    def remove_others(self, prefix: str, ours: str) -> list[str]:
        """End the actors whose names begin with ``prefix``, but not those that do with ``ours``.

        Returns their names.
        """
        old = [n for n in list_named_actors() if n.startswith(prefix) and not n.startswith(ours)]
        for name in old:
            with contextlib.suppress(ValueError):  # it has just ended by itself
                ray.kill(ray.get_actor(name), no_restart=True)
        return sorted(old)

    def create(
        self,
        name: str,
        flags: list[str],
        keys: WorkerKeys | None,
        cpus: int,
        resources: Mapping[str, float],
    ) -> Any:
        """An actor for one worker, on the node where there is room; Ray starts it again."""
        return self._actor.options(
            name=name,
            num_cpus=cpus,
            resources=dict(resources),
            max_restarts=-1,
            max_concurrency=THREADS,
            scheduling_strategy="SPREAD",
        ).remote(flags, keys)

    def ask(self, actor: Any, number: int, seen: int, ready: bool) -> None:
        """Ask for a report; the answer comes under ``number``."""
        self._asked[actor.report.remote(seen, ready)] = number

    def answers(self, seconds: float) -> Iterator[tuple[int, Report | Unavailable | Dead]]:
        """What has been answered within the time."""
        if not self._asked:
            time.sleep(seconds)
            return
        waiting = list(self._asked)
        done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=seconds)
        for reference in done:
            yield self._asked.pop(reference), _outcome(reference)

    def restart(self, actor: Any) -> None:
        """Have Ray start it again, where there is room."""
        ray.kill(actor, no_restart=False)

    def remove(self, actor: Any) -> None:
        """End it for good."""
        ray.kill(actor, no_restart=True)

    def send_home(self, actor: Any, seconds: float) -> None:
        """Its worker is to leave within the time."""
        self._leaving.append(actor.leave.remote(seconds))

    def wait_until_left(self, seconds: float) -> None:
        """For those who were sent home."""
        if self._leaving:
            ray.wait(self._leaving, num_returns=len(self._leaving), timeout=seconds)

    def close(self) -> None:
        """What was started through this connection ends, and a cluster of our own."""
        ray.shutdown()


def _outcome(reference: Any) -> Report | Unavailable | Dead:
    try:
        report = ray.get(reference)
    except ActorUnavailableError:
        return Unavailable()
    except RayActorError as error:
        return Dead(one_line(error))
    except RayError as error:
        return Dead(one_line(error))
    assert isinstance(report, Report)  # noqa: S101  # from an actor of ours
    return report


def one_line(error: BaseException) -> str:
    """What an error of Ray's says, without its pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if isinstance(error, RayActorError) and lines else " ".join(lines[:2])
    return printable(text)[:MOST_WORDS]

"""``python tests/system/ray_nodes.py CPUS``: a Ray cluster here, as long as stdin is open.

It begins with a head of so many processors. It answers lines, each with one: ``add CPUS`` with the
process number of a new node's raylet, ``leave NAME`` (an actor of that name which outlives who has
made it) with the number of the actor's process. The first line that it prints is the address of
the cluster and the number of the head's raylet.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import ray
from ray.cluster_utils import Cluster

NODE = {"object_store_memory": 80 << 20, "include_dashboard": False}
TRIES = 4  # a node gives up after 30 s, which is little on a machine with much to do


def add(cluster: Cluster, cpus: int) -> int:
    """The number of the raylet of a new node."""
    for left in reversed(range(TRIES)):
        try:
            node = cluster.add_node(num_cpus=cpus, **NODE)
            return raylet_of(node)
        except Exception:  # Ray's own, which has no name
            if not left:
                raise
    raise AssertionError("unreachable")


def raylet_of(node: Any) -> int:
    """The number of its main process."""
    return int(node.all_processes["raylet"][0].process.pid)


class Abandoned:
    """What an earlier launch might have left."""

    def pid(self) -> int:
        """Of the process in which it is."""
        return os.getpid()


def main() -> None:
    """Answer lines until there are no more."""
    cluster = Cluster()
    head = add(cluster, int(sys.argv[1]))
    print(cluster.address, head, flush=True)
    for line in sys.stdin:
        word, argument = line.split()
        if word == "add":
            print(add(cluster, int(argument)), flush=True)
        else:
            ray.init(address=cluster.address, namespace="microgpt", log_to_driver=False)
            options = {"name": argument, "lifetime": "detached", "num_cpus": 0}
            actor = ray.remote(Abandoned).options(**options).remote()
            print(ray.get(actor.pid.remote()), flush=True)
            ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()

"""When to look at all connections again: the sooner, the less else limits who brings too much."""

from __future__ import annotations

from coordinator.net.connections import Connections

MEMBERS_LOOK_SECONDS = 0.05  # from one look at all connections to the next
#: The same where nothing else limits a stranger, and while it brings more than it has said.
LOOK_SECONDS, SOON_SECONDS = 0.005, 0.003
LOOK_SHARE, CALM_SHARE = 4, 16  # times a look's length without one; if the system keeps all limits


def next_look(connections: Connections, began: float, ended: float) -> float:
    """When the next look is due, after one from ``began`` to ``ended``, in seconds of its clock."""
    pause = MEMBERS_LOOK_SECONDS
    if connections.flow:
        pause = SOON_SECONDS
    elif connections.has_unlimited:
        pause = LOOK_SECONDS
    share = LOOK_SHARE if connections.has_unlimited else CALM_SHARE
    return ended + max(pause, share * (ended - began))

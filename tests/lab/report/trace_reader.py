"""Reads a Chrome trace as a viewer does, and refuses what a viewer would pass over or draw wrong.

By "Trace Event Format", Google, 2016: complete events (``X``) of a thread are nested; asynchronous
ones (``b``, ``e``) pair up by category, id and process; metadata (``M``) names what is there.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

PHASES = {"X", "b", "e", "i", "C", "M"}


class Trace:
    """A trace that is well formed. ``threads``: names by process and thread."""

    def __init__(self, text: str) -> None:
        whole = json.loads(text, parse_constant=_refuse)
        assert whole["displayTimeUnit"] in ("ms", "ns")
        self.processes: dict[int, str] = {}
        self.threads: dict[tuple[int, int], str] = {}
        self.complete: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self.spans: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.instants: list[dict[str, Any]] = []
        self.counters: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._open: dict[tuple[str, str, int], dict[str, Any]] = {}
        for event in whole["traceEvents"]:
            self._take(event)
        assert not self._open, "an asynchronous event has no end"
        for events in self.complete.values():
            check_nested(events)
        used = {(event["pid"], event["tid"]) for event in self.instants} | self.complete.keys()
        assert used <= self.threads.keys(), "a thread has no name"

    def _take(self, event: dict[str, Any]) -> None:
        phase = event["ph"]
        assert phase in PHASES
        assert type(event["pid"]) is int
        assert type(event["tid"]) is int
        assert isinstance(event["name"], str)
        where = event["pid"], event["tid"]
        if phase == "M":
            name = event["args"]["name"]
            if event["name"] == "process_name":
                self.processes[event["pid"]] = name
            else:
                assert event["name"] == "thread_name"
                self.threads[where] = name
            return
        assert isinstance(event["ts"], int | float)
        assert math.isfinite(event["ts"])
        if phase == "X":
            assert event["dur"] >= 0
            self.complete[where].append(event)
        elif phase == "i":
            assert event["s"] in ("g", "p", "t")
            self.instants.append(event)
        elif phase == "C":
            (value,) = event["args"].values()
            self.counters[event["name"]].append((event["ts"], value))
        else:
            key = event["cat"], event["id"], event["pid"]
            if phase == "b":
                assert key not in self._open
                self._open[key] = event
            else:
                begin = self._open.pop(key)
                assert begin["name"] == event["name"]
                assert begin["ts"] <= event["ts"]
                self.spans.append((begin, event))


def check_nested(events: list[dict[str, Any]]) -> None:
    """Complete events of a thread lie beside each other or within each other."""
    stack: list[float] = []
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        end = event["ts"] + event["dur"]
        while stack and stack[-1] <= event["ts"] + 1e-3:
            stack.pop()
        assert not stack or end <= stack[-1] + 1e-3, "two events overlap"
        stack.append(end)


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")

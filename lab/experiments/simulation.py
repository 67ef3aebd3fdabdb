"""What an experiment's file says of simulated runs: its table ``[simulation]``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lab.experiments.one_machine_costs import OneMachine
from lab.experiments.reading import Table
from lab.experiments.settings import boolean, number


@dataclass(frozen=True)
class Simulation:
    """What a simulated engine takes, in microseconds: for each call and for each document.

    None: as it is measured on this machine. ``noise``: by how much a time may be off, as a share.
    ``start_seconds``: that a process which has failed takes to start, before it works again.
    ``one_machine``: all processes share this machine's processors, and what they do beside the
    engine takes time, too. ``machine``: how much, as soon as that is measured.
    """

    call_microseconds: float | None = None
    document_microseconds: float | None = None
    noise: float = 0.1
    start_seconds: float = 0.0
    one_machine: bool = False
    machine: OneMachine | None = None


def read_simulation(table: Table, usual: Simulation) -> Simulation:
    """What the table says, as ``usual`` where it says nothing. Raises ExperimentError."""
    time = number(0.0, 1e7)
    call = table.take("call_microseconds", time, usual.call_microseconds)
    document = table.take("document_microseconds", time, usual.document_microseconds)
    noise = table.take("noise", number(0.0, 0.9), usual.noise)
    start = table.take("start_seconds", number(0.0, 3600.0), usual.start_seconds)
    shared = table.take("one_machine", boolean, usual.one_machine)
    table.close()
    return Simulation(call, document, noise, start, shared)

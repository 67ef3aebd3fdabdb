"""``--launcher slurm``: workers as steps of a job, which is the whole run.

Outside of a job a batch script is submitted, which calls the same program again; inside of one, of
that script or of ``salloc``, each worker is an ``srun`` of its own, and is started again alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from coordinator.run.directory_owner import OwnedRunDir
from lab.launch.children import Child
from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers import slurm_commands as slurm
from lab.launch.launchers.attached import AttachedWorkers
from lab.launch.launchers.base import (
    BatchLauncher,
    BatchRequest,
    LaunchedWorkers,
    Launcher,
    Place,
    Plan,
    WorkerHandle,
    WorkerRequest,
    from_json,
)
from lab.launch.launchers.processes import POLITE, Crew, WorkerProcesses, signal_name
from lab.launch.launchers.slurm_script import check_options, log_file, script, script_file
from lab.launch.logs import lines_of
from microgpt.support.cli import UserError
from microgpt.support.isolation import isolated

JOB = "job"  # in the launch record
WORKER_KEYS = "worker-keys"  # the folder in the run directory that workers read
#: A step may end with exit code 0 because its node has died. If the run is over, so is the
#: supervisor before this time has passed.
DOUBT_SECONDS = 2.0
END_SECONDS = 90.0  # for a job that is cancelled, more than Slurm's usual KillWait
POLL_SECONDS = 0.5
LOOK_SECONDS = 2.0  # between looks whether a job goes on, whose log is read
ACTIVE = ("PENDING", "RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "COMPLETING", "REQUEUED")
TASKS = "SLURM_NTASKS"  # how many workers the job has room for


def make(options: Mapping[str, str]) -> Launcher | SlurmBatch:
    """The launcher of a job's workers inside of one, else that of a whole job. Raises UserError."""
    check_options(options)
    job = slurm.own_job()
    return SlurmWorkers(job) if job is not None else SlurmBatch(options)


def attach(run: Path, record: LaunchRecord) -> LaunchedWorkers:
    """The workers of a run under Slurm, from wherever its files are seen. Raises UserError."""
    job = record.known_as.get(JOB, "")
    if not job.isdecimal():
        raise UserError(f"{run} was not started by this launcher: its record names no job")
    if slurm.own_job() == job:
        return AttachedWorkers(run, record)
    return SlurmJob(run, job)


class SlurmWorkers(WorkerProcesses):
    """Inside of a job. Each worker is a step of one task, wherever the job has room for it."""

    remote = True

    def __init__(self, job: str) -> None:
        super().__init__()
        self._job = job
        self._keys: Path | None = None

    def start(self, request: WorkerRequest, place: Place) -> None:
        """Put the keys where all nodes can read them, and start. Raises UserError."""
        if request.keys is not None:
            self._keys = request.run.absolute() / WORKER_KEYS
            place.directory.will_make(self._keys)
            try:
                request.keys.write(self._keys)
            except OSError as error:
                raise UserError(f"cannot write keys to {self._keys}: {error.strerror}") from error
        super().start(request, place)

    def known_as(self) -> Mapping[str, str]:
        """The job."""
        return {JOB: self._job}

    def list_workers(self) -> tuple[WorkerHandle, ...]:
        """With the nodes that Slurm tells, and who waits for room there. Raises UserError."""
        steps = slurm.steps(self._job)
        return tuple(_placed(each, steps) for each in super().list_workers())

    def scale(self, count: int) -> str:
        """At most as many as the job was made for. Raises UserError."""
        room = os.environ.get(TASKS, "")
        if room.isdecimal() and count > int(room):
            raise UserError(f"job {self._job} has room for {room} workers, not for {count}")
        return super().scale(count)

    def _command(self, request: WorkerRequest, name: str, *more: str) -> list[str]:
        """``more`` is for children on this machine: a worker elsewhere has no parent here."""
        step = ["--exact", "--nodes=1", "--ntasks=1", f"--cpus-per-task={request.cpus}", "--mem=0"]
        step += ["--quit-on-interrupt", f"--job-name={name}"]
        flags = request.worker_flags(name, self._keys)
        return ["srun", *step, *isolated("lab.launch.launchers.slurm_worker", *flags)]

    def _start(self, crew: Crew, number: int) -> None:
        super()._start(crew, number)
        # Nobody tells us when it is at work: who has run for long enough was no trouble to start.
        self._restarts[number].works(time.monotonic())

    def _on_end(self, crew: Crew, child: Child) -> None:
        number = child.number
        if child.process.returncode == 0 and not crew.control.has_left(number):
            self._children.pop(number, None)
            self._restarts[number].restarts += 1
            self._due[number] = time.monotonic() + DOUBT_SECONDS
        else:
            super()._on_end(crew, child)

    def _killed(self, code: int) -> str | None:
        """Srun's own failures are no reason to give a worker up at once either."""
        if code in POLITE:
            return None
        return signal_name(code - 128) if code > 128 else f"exit code {code}"


def _placed(handle: WorkerHandle, steps: Mapping[str, tuple[str, str]]) -> WorkerHandle:
    if handle.name in steps:
        return replace(handle, where=steps[handle.name][1])
    return handle


class SlurmBatch(BatchLauncher):
    """Outside of a job: submits one, which is the whole run."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options

    def plan(self, request: BatchRequest) -> Plan:
        """The script."""
        return Plan(tuple(script(request, self._options).splitlines()))

    def submit(self, request: BatchRequest, directory: OwnedRunDir) -> Mapping[str, str]:
        """Write the script into the run directory, and have it wait in the queue, held."""
        text, file = script(request, self._options), script_file(request.run)
        slurm.require("sbatch")
        log = log_file(request.run)
        try:
            for made in (log.parent, file):
                directory.will_make(made)
            log.parent.mkdir(exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}") from error
        return {JOB: slurm.submit(file)}

    def begin(self, known_as: Mapping[str, str]) -> str:
        """Let it start when there is room."""
        slurm.release(known_as[JOB])
        return f"job {known_as[JOB]}"


class SlurmJob(LaunchedWorkers):
    """A run under Slurm from outside: asks within the job, on the node of its supervisor."""

    def __init__(self, run: Path, job: str) -> None:
        self._run, self._job = run, job
        self._asked_at = -LOOK_SECONDS
        self._active = True

    def list_workers(self) -> tuple[WorkerHandle, ...]:
        """As the supervisor tells. Raises UserError, also while the job waits in the queue."""
        return from_json(self._ask("list", "--json"))

    def logs(self, name: str, follow: bool) -> Iterator[str]:
        """From its file. Raises UserError."""
        return lines_of(self._run, name, lambda: follow and self._goes_on())

    def scale(self, count: int) -> str:
        """As many as the job has room for. Raises UserError."""
        return self._ask("scale", str(count))

    def stop(self) -> None:
        """Cancel the job, whose coordinator saves, and wait for its end. Raises UserError."""
        until = time.monotonic() + END_SECONDS
        if slurm.job_state(self._job) in ACTIVE:
            slurm.cancel(self._job)
        while slurm.job_state(self._job) in ACTIVE:
            if time.monotonic() > until:
                raise UserError(f"job {self._job} does not end within {END_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def _goes_on(self) -> bool:
        now = time.monotonic()
        if now - self._asked_at >= LOOK_SECONDS:
            self._asked_at, self._active = now, slurm.job_state(self._job) in ACTIVE
        return self._active

    def _ask(self, *words: str) -> str:
        """The last line that ``microgpt workers`` prints within the job."""
        state = slurm.job_state(self._job)
        if state == "PENDING":
            raise UserError(f"job {self._job} waits in the queue: {slurm.reason(self._job)}")
        if state != "RUNNING":
            raise UserError(f"job {self._job} does not run: {state.lower() or 'it is long over'}")
        program = isolated("lab.command_line", "workers", str(self._run.absolute()), *words)
        said = slurm.run_inside(self._job, program).strip().splitlines()
        return said[-1] if said else ""

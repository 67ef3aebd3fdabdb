"""The simulator: fresh schedules, old failures, and proof that it can fail.

Each mutant breaks the state machines in one way; most are defects that the simulator, or thinking
about it, has found in an earlier version. The unbroken code must survive the same seeds. Where a
change of the simulator gives the seeds another meaning, ``test_..._is_caught`` says so; then
``python scripts/simulate.py`` with the mutant in place finds new ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import coordinator.core.state
import worker.state
from coordinator.core import inputs
from coordinator.core.ahead import Ahead
from coordinator.core.contribution import Contribution
from coordinator.core.events import Purpose
from coordinator.core.in_flight import RoundId, Work
from coordinator.core.judging import Judging
from coordinator.core.results import Results
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.rounds import Rounds
from coordinator.core.scheduler import Scheduler
from coordinator.core.state import CoordinatorState
from coordinator.core.stragglers import Stragglers
from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import FAULTS, make_plan
from lab.simulation.play import Result, play
from microgpt.data.packed import PackedDocuments
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages
from microgpt.strategies.base import Losses, Round
from microgpt.strategies.driver import OpenRound, RoundDriver
from tests.marks import soak
from worker.state import WorkerState

CODEC_SHARE = 0.02


def run(seed: int, workers: int | None = None, engine: str = STAND_IN) -> Result:
    return play(make_plan(seed, workers, CODEC_SHARE), engine)


@pytest.mark.parametrize("schedules", [60, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)  # of a crowded machine; ten to twenty seconds of one core for the many
def test_fresh_schedules_end_with_the_bits_of_the_quiet_run(schedules: int) -> None:
    first = random.SystemRandom().randrange(1 << 40)
    print(f"schedules {first} to {first + schedules - 1}")
    for seed in range(first, first + schedules):
        result = run(seed)
        assert not result.problem, f"python scripts/simulate.py --seed {seed} --trace"


def test_the_same_seed_plays_the_same_schedule() -> None:
    for seed in range(20):
        one, other = (play(make_plan(seed, None, 1.0), STAND_IN, trace=True) for _ in range(2))
        assert one.trace == other.trace
        assert one.trace


def test_all_kinds_of_faults_are_drawn() -> None:
    drawn = {fault.kind for seed in range(300) for fault in make_plan(seed, None, 0.0).faults}
    assert drawn == set(FAULTS)


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 30), marks=pytest.mark.soak)])
def test_real_gradients(seeds: range) -> None:
    for seed in seeds:
        assert run(seed, engine="scalar").problem == ""


def test_real_files_and_the_recovery_rule_of_production(tmp_path: Path) -> None:
    for seed in range(15):
        result = play(make_plan(seed, None, 1.0), STAND_IN, tmp_path / str(seed))
        assert result.problem == ""


@pytest.mark.parametrize(("seed", "workers"), [(0, 200), soak(0, 1000), soak(6, 1000)])
def test_a_thousand_workers(seed: int, workers: int) -> None:
    result = run(seed, workers=workers)
    assert result.problem == ""
    assert result.messages > 3 * 3 * workers


def test_a_late_welcome_makes_no_worker_forget_its_work() -> None:
    """Found by about one schedule in four thousand, so it is played by hand here."""
    state = WorkerState("w", "virtual")
    state.start(0.0)
    welcome = messages.Welcome("run", "epoch", 1, 1.0, {"vocab_size": 2})
    packed = PackedDocuments.pack([[1, 0, 1]]).to_bytes()
    tasks = [messages.Task("run", "epoch", 0, start, 1, *packed, round=0) for start in (0, 1)]
    said = [welcome, messages.Weights("run", "epoch", 0, {}), *tasks, welcome]
    for message in said:
        state.handle(worker.state.Received(message), 0.0)
    assert state.computing is not None
    answer = messages.Failure("run", "epoch", 0, 0, "", round=0)
    state.handle(worker.state.Computed(state.computing, answer), 0.1)
    assert state.computing is not None
    assert state.computing.task == tasks[1]


# The simulator can fail: mutants


def accept_older_steps(
    self: Results, worker: Any, answer: messages.ShardResult, now: float
) -> None:
    shard = Shard(answer.start, answer.count)
    work = Work(RoundId(answer.round, answer.step, answer.training), shard)
    since = worker.in_flight.get(work)
    self._in_flight.end(worker.peer, work)
    for round in [*self._rounds.open.values()]:
        if self._ending.closing is None and shard in round.ledger.all:
            self._enter(worker, round, shard, answer, since, now)


def forget_shards_of_lost_workers(self: RoundLedger, peer: bytes) -> list[Shard]:
    freed = [shard for shard in self.all if peer in self.assignees(shard)]
    for shard in freed:
        self._in_flight.end(peer, Work(self.round, shard))
    return freed


def back_up_with_anybody(self: Stragglers, workers: Any, now: float) -> None:
    idle = [worker for worker in workers.values() if not worker.in_flight]
    for round in self._rounds.open.values():
        for shard in round.ledger.all:
            assignees = round.ledger.assignees(shard)
            if len(assignees) == 1 and idle and now - next(iter(assignees.values())) > 0.25:
                helper = idle.pop()
                round.ledger.take_also(shard, helper.peer, now)
                self._send(helper, round, shard, Purpose.BACKUP)


def take_every_standstill_for_silence(self: CoordinatorState, now: float) -> None:
    self._clock.start(now)


ADD = RoundDriver._add


def evaluate_with_old_weights(self: RoundDriver, round: Round, params: Any) -> OpenRound:
    return ADD(self, round, self.state.params if isinstance(round.task, Losses) else params)


def take_any_round_of_the_step(self: Rounds, id: RoundId) -> Any:
    return next((round for round in self.open.values() if round.id.step == id.step), None)


ON_RECEIVED = CoordinatorState._on_received
DISPATCH = Scheduler.dispatch


def ignore_who_missed_the_welcome(self: CoordinatorState, event: inputs.Received) -> bool:
    message, known = event.message, self.workers.get(event.peer)
    foreign = (message.run, message.epoch) != (self.run, self.epoch)
    if known and foreign and not isinstance(message, messages.Hello | messages.Goodbye):
        known.heard = self._clock.now
        return False
    return ON_RECEIVED(self, event)


def trust_everybody(self: Scheduler, workers: Any, now: float) -> None:
    self.probation._divide = lambda workers: ({**workers}, [])  # type: ignore[method-assign]
    for round in self.rounds.open.values():
        round.ledger.waive_verification()
    DISPATCH(self, workers, now)


def never_miss_anybody(self: CoordinatorState, event: inputs.Tick) -> bool:
    if self.closing is None:
        self._scheduler.stragglers.back_up(self.workers, self._clock.now)
    return False


BACK_UP = Stragglers.back_up


def help_once(self: Stragglers, workers: Any, now: float) -> None:
    ledgers = [round.ledger for round in self._rounds.open.values()]
    if all(len(ledger.assignees(shard)) < 2 for ledger in ledgers for shard in ledger.all):
        BACK_UP(self, workers, now)


def begin_at_once(self: WorkerState, message: messages.TaskAhead) -> None:
    if self._weights is not None:
        where = message.run, message.epoch, message.step, message.start, message.count
        task = messages.Task(*where, message.tokens, message.lengths, round=message.round)
        self._queue.append(worker.state.Job(task, self._weights.weights))
        self._compute_next()


def believe_what_workers_say(
    self: Judging, round: Any, shard: Shard, reason: str, **more: Any
) -> None:
    self._ending.close("failed", reason)


def do_nothing(*arguments: Any) -> None:
    pass


COORDINATOR_HANDLERS = coordinator.core.state._HANDLERS
WORKER_HANDLERS = worker.state._HANDLERS

#: (what is replaced, where; by what; seeds of schedules of which at least one catches it)
MUTANTS: dict[str, tuple[Any, Any, Any, list[int]]] = {
    "answers of an older step are accepted": (
        Results, "take_result", accept_older_steps, [14, 24, 45],
    ),
    "a lost worker's shards are forgotten": (
        RoundLedger, "release", forget_shards_of_lost_workers, [2, 3],
    ),
    "a straggler is helped by a worker that has answered": (
        Stragglers, "back_up", back_up_with_anybody, [1, 2, 3],
    ),
    "a coordinator that thaws throws everybody out": (
        CoordinatorState, "_advance_time", take_every_standstill_for_silence, [91, 166],
    ),
    "who has missed the welcome of a new epoch stays deaf": (
        COORDINATOR_HANDLERS, inputs.Received, ignore_who_missed_the_welcome, [4724],
    ),
    "a new connection goes unnoticed": (
        WORKER_HANDLERS, worker.state.Connected, do_nothing, [10750],
    ),
    "newcomers are trusted, and nothing is verified": (
        Scheduler, "dispatch", trust_everybody, [127, 368],
    ),
    "a shard that two lazy workers have is given to nobody else": (
        Stragglers, "back_up", help_once, [18, 281],
    ),
    "a shard that lazy workers should verify is waited for": (
        Stragglers, "stalled", lambda self, worker, now: False, [18, 196],
    ),
    "what could end the run is believed": (
        Judging, "ask", believe_what_workers_say, [143, 183],
    ),
    "silence is not noticed": (COORDINATOR_HANDLERS, inputs.Tick, never_miss_anybody, [2, 49]),
    "an evaluation uses the weights before the step": (
        RoundDriver, "_add", evaluate_with_old_weights, [2, 3],
    ),
    "a late answer to an evaluation counts in the step after it": (
        Rounds, "find", take_any_round_of_the_step, [35, 96],
    ),
    "a task that is told ahead is computed with the weights before": (
        WorkerState, "_on_task_ahead", begin_at_once, [0, 9],
    ),
    "who begins again is thought to know what it was told": (
        Ahead, "forget", do_nothing, [607, 1427],
    ),
    "different answers are not compared": (
        Contribution, "same_bits", lambda one, other: True, [201, 473],
    ),
}  # fmt: skip


def replace(monkeypatch: pytest.MonkeyPatch, where: Any, what: Any, by: Callable[..., Any]) -> None:
    if isinstance(where, dict):
        monkeypatch.setitem(where, what, by)
    else:
        monkeypatch.setattr(where, what, by)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_state_machine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, by, seeds = MUTANTS[name]
    assert [run(seed).problem for seed in seeds] == [""] * len(seeds), "unbroken, all is well"
    replace(monkeypatch, where, what, by)
    assert any(run(seed).problem for seed in seeds)

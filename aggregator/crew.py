"""The workers below an aggregator, and the one job that they have: decisions, no I/O, no clock.

They are given parts of the job and held to account by the very code that a run's coordinator has
for its workers: who is slow is helped, whose answer is malformed is cut off, where two contradict
each other the part is judged. What their parts add up to is a node of the batch's tree.
"""

from __future__ import annotations

from aggregator.job_rounds import JobEnding, JobRounds
from coordinator.core import inputs
from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.clock import Clock
from coordinator.core.judging import Judging
from coordinator.core.membership import Membership
from coordinator.core.policy import Policy
from coordinator.core.replicas import Replicas
from coordinator.core.results import Results
from coordinator.core.rounds import OpenRound, Rounds
from coordinator.core.scheduler import Scheduler
from coordinator.core.worker_inputs import WorkerInputs
from microgpt.distribution import Distribution
from microgpt.numerics.vectors import all_finite, vector_to_map
from microgpt.optim.adam import AdamConfig
from microgpt.protocol import messages
from microgpt.replicas.recipe import make_recipe
from microgpt.replicas.work import Recipe
from microgpt.strategies import opened
from microgpt.strategies.base import Result, sum_of_results
from worker.state import Job

CLOCK_SHARE = 4  # of the timeout: by no more does our own time go on from event to event


class Crew:
    """``welcome`` is the parent's: of its run, with the model and the time to be silent.

    ``epoch`` names this crew to its workers, and is no other's. ``libm`` is our digest. What is
    to be done goes into ``out``. Raises ValueError if there is no such model.
    """

    def __init__(
        self, out: ActionBuffer, welcome: messages.Welcome, epoch: str, libm: str, now: float
    ) -> None:
        run, timeout = welcome.run, welcome.seconds
        self.epoch, self._clock = epoch, Clock(timeout / CLOCK_SHARE)
        self._clock.start(now)
        self._jobs = JobRounds(welcome.model)
        policy, recipe = Policy(worker_timeout=timeout), _recipe_of_nobody()
        rounds = self._rounds = Rounds(self._jobs, policy, run, epoch)
        replicas = Replicas(run, epoch, recipe)
        scheduler = self._scheduler = Scheduler(rounds, policy, out, replicas)
        members = self._members = Membership(
            out, run, epoch, timeout, welcome.model, libm, scheduler.in_flight,
            scheduler.release, welcome.recipe,
        )  # fmt: skip
        shapes, ending = self._jobs.shapes, JobEnding()
        self._ending = ending
        judging = self._judging = Judging(out, members, scheduler, ending, shapes, recipe)
        results = Results(out, members, scheduler, judging, ending, shapes, recipe)
        self._inputs = WorkerInputs(
            out, run, epoch, timeout, members, scheduler, judging, results, ending
        )
        self._job: Job | None = None
        self._round: OpenRound | None = None
        self._failure: messages.Failure | None = None  # what a worker has said of the job last
        self._told: tuple[messages.Task, opened.OpenRound] | None = None  # ahead of its weights
        self._next_number = 0

    @property
    def size(self) -> int:
        """How many workers can be given work."""
        return len(self._members.ready)

    @property
    def members(self) -> Membership:
        """The workers, for people and for whoever owns their connections."""
        return self._members

    def call(self, peers: list[inputs.Peer]) -> None:
        """Ask those who were here before to come in again."""
        for peer in peers:
            self._members.reregister(peer)

    def dismiss(self, reason: str) -> None:
        """There is no more work: send everybody home, and whoever comes from now on."""
        self._members.dismiss(reason)

    # --- work ------------------------------------------------------------------------------------

    def prepare(self, task: messages.Task) -> None:
        """The task that comes next; its weights do not exist yet."""
        if self._round is None or not self.size:
            return
        try:
            round = self._jobs.open(self._next_number, task, None)
        except ValueError:  # which is raised when it is to be done
            return
        self._next_number += 1
        self._told = task, round
        self._scheduler.prepare(round, self._members.ready)

    def begin(self, job: Job, now: float) -> None:
        """Do this job. What is under way is given up. Raises ValueError if it is malformed."""
        self.give_up()
        self._clock.advance(now)
        told, self._told = self._told, None
        number = self._next_number
        if told is not None and told[0] is job.task:
            number = told[1].number
        else:
            self._next_number += 1
        round = self._jobs.open(number, job.task, job.weights)
        self._ending.begin()
        self._failure, self._job = None, job
        self._scheduler.begin(round, self._members.ready, self._clock.now)
        self._round = self._rounds.open[number]
        self._go_on()

    def give_up(self) -> None:
        """The job is not done. Who still has a part of it will say something of no use."""
        if self._round is not None:
            self._scheduler.close(self._round, self._clock.now)
        self._job = self._round = None

    def finish(self) -> messages.Message | None:
        """What has come of the job, if it is over: a ShardResult or a Failure. None if it is not.

        Raises LookupError if the workers contradict each other, and nobody can tell who is right.
        """
        job, round = self._job, self._round
        if job is None or round is None:
            return None
        if self._ending.closing is not None:
            reason, failure = self._ending.closing.reason, self._failure
            self.give_up()
            if failure is None:
                raise LookupError(reason)
            return self._failed(job, failure.document, failure.reason)
        if not round.ledger.complete or self._judging.holds_up(round):
            return None
        results, seconds = round.results(), self._clock.now - round.began
        self.give_up()
        return self._answer(job, results, seconds)

    def _answer(self, job: Job, results: list[Result], seconds: float) -> messages.Message:
        """The parts together: their losses in order, and their sum."""
        task, gradient = job.task, {}
        if task.training:
            total = sum_of_results(results)
            if not all_finite(total):
                return self._failed(job, 0, "the sum of gradients is not a finite number")
            gradient = vector_to_map(total, self._jobs.shapes)
        losses = b"".join(result.losses.tobytes() for result in results)
        return messages.ShardResult(
            task.run, task.epoch, task.step, task.start, task.count, max(0.0, seconds), losses,
            gradient, task.training, round=task.round,
        )  # fmt: skip

    def _failed(self, job: Job, document: int, reason: str) -> messages.Failure:
        task, place = job.task, job.task.start + document
        return messages.Failure(
            task.run, task.epoch, task.step, place, reason, task.training, round=task.round
        )

    # --- what happens ----------------------------------------------------------------------------

    def take(
        self, event: inputs.Received | inputs.Misbehaved | inputs.Disconnected, now: float
    ) -> None:
        """Something has come from a worker, or from who would be one. An error costs the peer."""
        self._clock.advance(now)
        now = self._clock.now
        try:
            if isinstance(event, inputs.Received):
                self._note_failure(event)
                self._inputs.received(event, now)
            elif isinstance(event, inputs.Misbehaved):
                self._inputs.misbehaved(event)
            else:
                self._inputs.disconnected(event)
        except Exception as error:
            if isinstance(event, inputs.Disconnected):
                raise
            self._inputs.remove_faulty(event, error)
            self._inputs.audit()
        self._go_on()

    def judged(self, event: inputs.Judged, now: float) -> None:
        """What a part comes to on this host."""
        self._clock.advance(now)
        if isinstance(event.answer, messages.Failure):
            self._failure = event.answer
        self._judging.take_verdict(event, self._clock.now)
        self._go_on()

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._clock.advance(now)
        now = self._clock.now
        self._members.remove_silent(now)
        if self._round is not None:
            self._inputs.see_to_slow_ones(now)
        self._go_on()

    def _note_failure(self, event: inputs.Received) -> None:
        """Remember which document a worker calls impossible that is in a part it has."""
        message, worker = event.message, self._members.workers.get(event.peer)
        if not isinstance(message, messages.Failure) or worker is None or self._round is None:
            return
        shards = [work.shard for work in worker.in_flight if work.round == self._round.id]
        if any(shard.start <= message.document < shard.start + shard.count for shard in shards):
            self._failure = message

    def _go_on(self) -> None:
        """Give out what can be given out."""
        ready, now = self._members.ready, self._clock.now
        if self._round is not None and ready and self._ending.closing is None:
            self._scheduler.dispatch(ready, now)
            self._judging.settle(now)


def _recipe_of_nobody() -> Recipe:
    """What replicas do: none is ever given work here."""
    return make_recipe(Distribution(), AdamConfig(), 0)

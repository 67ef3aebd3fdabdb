"""Compares a replay with what the run has left behind: its losses and its checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.replay.player import Training
from lab.replay.record import Place
from lab.replay.run_files import METRICS, Checkpoints, Losses
from microgpt.checkpoint.format import Checkpoint
from microgpt.training import TrainingState, to_checkpoint

BEGINNING = Place(0, 0)


@dataclass
class Verdict:
    """What a replay has shown. ``difference``: the first one, "" if there is none.

    ``begin``: the step after which the record begins; ``at``: how far it has been replayed.
    ``losses``, ``checkpoints``: how many were compared, all of the same bits but the last if there
    is a difference. ``passed_over``: files that do not belong to what led to the end of the run.
    """

    at: Place = BEGINNING
    begin: int = 0
    state_sha256: str = ""
    losses: int = 0
    checkpoints: int = 0
    difference: str = ""
    passed_over: tuple[str, ...] = ()


def compare(
    states: Iterable[TrainingState],
    training: Training,
    losses: Mapping[int, Losses],
    checkpoints: Checkpoints,
    until: int | None = None,
) -> Iterator[Verdict]:
    """What is known after each of the ``states`` of a replay; the last one is the verdict.

    It ends with the first difference, or after step ``until``.
    """
    verdict = Verdict()
    waiting: list[tuple[Path, Checkpoint]] = []  # those of the step, for more used up documents
    before: TrainingState | None = None
    for state in states:
        new = before is None or state.step > before.step
        if new and waiting:
            break
        if new and until is not None and state.step > until:
            break
        if new:
            waiting = [*checkpoints.of(state.step)]
            _compare_losses(verdict, state, losses.get(state.step))
            waiting = [each for each in waiting if _belongs(verdict, each, losses)]
        before = state
        verdict.at = Place(state.step, state.next_document)
        if not verdict.difference:
            waiting = _compare_states(verdict, training, state, waiting)
        yield verdict
        if verdict.difference:
            return
    if before is not None:
        verdict.state_sha256 = digest(training, before)
    if waiting:
        path, saved = waiting[0]
        verdict.difference = (
            f"step {saved.step} differs: {path} has used up {saved.next_document} documents, and "
            f"the replay {verdict.at.documents}"
        )
    yield verdict


def digest(training: Training, state: TrainingState) -> str:
    """The ``state_sha256`` of a checkpoint of the state."""
    tokenizer = training.corpus.tokenizer
    return to_checkpoint(training.config, state, tokenizer, {}, "").state_sha256


def _compare_losses(verdict: Verdict, state: TrainingState, recorded: Losses | None) -> None:
    if recorded is None or not state.losses:
        return
    verdict.losses += 1
    pairs = [("loss", recorded.batch, state.losses[-1])]
    fresh = state.validation is not None and state.validation.step == state.step
    if fresh and state.validation is not None and recorded.validation is not None:
        pairs.append(("validation loss", recorded.validation, state.validation.loss))
    for what, theirs, ours in pairs:
        if theirs != ours:
            verdict.difference = (
                f"step {state.step} differs: its {what} is {theirs!r} in {METRICS}, and {ours!r} "
                "in the replay"
            )
            return


def _belongs(
    verdict: Verdict, found: tuple[Path, Checkpoint], losses: Mapping[int, Losses]
) -> bool:
    """Whether a file is of the steps that count, and not of those that were done again since."""
    path, saved = found
    recorded = losses.get(saved.step)
    if recorded is None or not saved.losses or saved.losses[-1] == recorded.batch:
        return True
    verdict.passed_over += (f"{path} is of a step that the run has done again since",)
    return False


def _compare_states(
    verdict: Verdict,
    training: Training,
    state: TrainingState,
    waiting: list[tuple[Path, Checkpoint]],
) -> list[tuple[Path, Checkpoint]]:
    """Compare with those checkpoints that have used up as many documents; returns the others."""
    now = [each for each in waiting if each[1].next_document == state.next_document]
    for path, saved in now:
        ours = digest(training, state)
        verdict.checkpoints += 1
        if saved.state_sha256 != ours:
            verdict.difference = (
                f"step {state.step} differs: the state_sha256 of {path} is {saved.state_sha256}, "
                f"and that of the replay {ours}"
            )
            return []
    return [each for each in waiting if each not in now]

"""The seam and the serial runner: ``sync`` against a plain loop, others by their own rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.engine.scalar import ScalarEngine
from microgpt.model import GPTConfig
from microgpt.optim.reduction import Shard, tree_sum
from microgpt.strategies import serial
from microgpt.strategies.base import Result, Round, Strategy, StrategyError, View
from microgpt.strategies.driver import RoundDriver
from microgpt.strategies.registry import load_strategy, options_of, parse_options
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, Validation, advance, initial_state, validation_loss
from tests.processes import NAMES, TINY_MODEL
from tests.strategies_of_users import OneEach

STEPS, BATCH = 5, 6


@dataclass(frozen=True)
class Cut(Sync):
    """``sync`` with shards of a given size."""

    size: int = 1

    def open(self, view: View) -> Sequence[Round]:
        rounds = super().open(view)
        return [Round(r.version, r.first, r.count, r.task, self.size) for r in rounds]


def setting(held_out: float = 0.0) -> tuple[TrainingConfig, Corpus, ScalarEngine]:
    corpus = Corpus(NAMES, 42, held_out)
    model = GPTConfig(corpus.tokenizer.vocab_size, **TINY_MODEL)
    config = TrainingConfig(model, steps=STEPS, batch_size=BATCH, validation_fraction=held_out)
    return config, corpus, ScalarEngine(model)


def train(strategy: Strategy, workers: int = 1, held_out: float = 0.0) -> list[TrainingState]:
    config, corpus, engine = setting(held_out)
    start = initial_state(config, corpus)
    due = (lambda step: step % 2 == 0) if held_out else (lambda step: False)
    return list(serial.run(strategy, config, corpus, start, engine, workers=workers, evaluates=due))


def plain_loop() -> list[TrainingState]:
    """Training written down once more, document by document."""
    config, corpus, engine = setting()
    states = [initial_state(config, corpus)]
    for step in range(STEPS):
        documents = corpus.batch(step, BATCH)
        each = [engine.gradients(states[-1].params, [document]) for document in documents]
        total = tree_sum([given.gradient for given in each])
        states.append(advance(config, states[-1], total, [given.losses[0] for given in each]))
    return states[1:]


def same(ours: Sequence[TrainingState], theirs: Sequence[TrainingState]) -> bool:
    return len(ours) == len(theirs) and all(
        a.params.tobytes() == b.params.tobytes() and a.losses == b.losses
        and a.next_document == b.next_document
        for a, b in zip(ours, theirs, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("strategy", [Sync(), Cut(1), Cut(2), Cut(4), Cut(8)])
@pytest.mark.parametrize("workers", [1, 3])
def test_sync_has_the_bits_of_a_plain_loop(strategy: Strategy, workers: int) -> None:
    assert same(train(strategy, workers), plain_loop())


def test_an_evaluation_is_a_round_of_its_own_and_changes_no_bits() -> None:
    states = train(Sync(), held_out=0.25)
    _, corpus, engine = setting(0.25)
    for state in states:
        before = state.step - state.step % 2
        weights = states[before - 1].params if before else None
        expected = None
        if weights is not None:
            loss = validation_loss(engine.losses(weights, corpus.validation))
            expected = Validation(before, loss)
        assert state.validation == expected


def test_stale_rounds_see_the_weights_of_their_version() -> None:
    config, corpus, engine = setting()
    state = initial_state(config, corpus)
    versions = [state]
    for number in range(STEPS):  # two workers: from the second update on, one version behind
        old = versions[max(0, number - 1)]
        given = engine.gradients(old.params, corpus.documents(number * BATCH, BATCH))
        versions.append(advance(config, versions[-1], given.gradient, given.losses))
    assert same(train(OneEach(bound=1), workers=2), versions[1:])


def test_dropped_rounds_use_up_their_documents() -> None:
    states = train(OneEach(bound=0), workers=2)
    assert [state.step for state in states] == [1, 2, 3, 4, 5]
    assert [state.next_document for state in states] == [6, 18, 30, 42, 54]


class NoRound(Sync):
    def open(self, view: View) -> Sequence[Round]:
        return ()


class NeverEnough(Sync):
    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        return False


class OldWeights(Sync):
    def open(self, view: View) -> Sequence[Round]:
        return [Round(7, 0, 1)]


class Divides(Sync):
    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        raise ZeroDivisionError("by me")


class Jumps(Sync):
    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        return view.state


class Reshapes(Sync):
    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        after = super().update(view, round, results)
        assert after is not None
        return TrainingState(after.step, np.zeros(3), after.m, after.v, after.rng_state)


class Notes(Sync):
    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        view.note("gap", [1.0])  # type: ignore[arg-type]  # that is the mistake
        return super().update(view, round, results)


def gives(**fields: Any) -> type[Sync]:
    """A strategy whose states have other fields."""

    class Gives(Sync):
        def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState:
            after = super().update(view, round, results)
            assert after is not None
            return replace(after, **fields)

    return Gives


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (NoRound, "opens no round although none is open"),
        (NeverEnough, "are not enough for it"),
        (OldWeights, "no round of now"),
        (Divides, "update raises ZeroDivisionError: by me (line "),
        (Jumps, "does not give the state after one step"),
        (Reshapes, "vectors of another shape"),
        (gives(params=np.zeros(152, np.float32)), "vectors of float32, not of float64"),
        (gives(params=[0.0] * 152), "vectors of another shape"),
        (gives(slots={"mine": [1.0]}), "slot 'mine' is no vector of float64 numbers"),
        (gives(slots={"mine": np.zeros((2, 2))}), "slot 'mine' is no vector of float64 numbers"),
        (gives(slots={7: np.zeros(1)}), "update names a slot 7"),
        (gives(slots={f"s{i}": np.zeros(1) for i in range(65)}), "keeps more than 64 slots"),
        (gives(losses=("low",)), "gives a loss that is no float"),
        (Notes, "TypeError: note 'gap' is no number, nor a tuple of some: [1.0] (line "),
    ],
)
def test_a_strategy_that_breaks_the_rules_is_named(broken: type[Sync], reason: str) -> None:
    with pytest.raises(StrategyError) as failed:
        train(broken())
    assert reason in str(failed.value)
    assert "\n" not in str(failed.value)


def test_options_are_checked_against_the_fields(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from microgpt.strategies.sync import Sync\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Sync):\n"
        "    bound: int = 3\n"
        "    decay: float = 0.5\n"
        "    loud: bool = False\n"
    )
    name = f"{file}:Mine"
    mine = load_strategy(name, parse_options(("bound=4", "loud=yes")))
    assert options_of(mine) == {"bound": 4, "decay": 0.5, "loud": True}
    assert options_of(load_strategy(name, options_of(mine))) == options_of(mine)
    for options, reason in (
        ({"bound": "x"}, "option bound wants a whole number, not 'x'"),
        ({"bond": "4"}, "has no option 'bond': did you mean bound?"),
        ({"loud": "maybe"}, "option loud wants true or false"),
    ):
        with pytest.raises(StrategyError) as failed:
            load_strategy(name, options)
        assert reason in str(failed.value)


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("", "sinc", "did you mean sync?"),
        ("", "gone.py:Mine", "there is no file"),
        ("class Mine:\n  def", "f.py:Mine", "line 2"),
        ("1/0\n", "f.py:Mine", "ZeroDivisionError"),
        ("Mine = 1\n", "f.py:Mine", "has no class 'Mine'"),
        ("class Mine:\n    pass\n", "f.py:Mine", "must be a dataclass"),
        ("from dataclasses import dataclass\n@dataclass\nclass Mine:\n    pass\n", "f.py:Mine",
         "has no 'open'"),
    ],
)  # fmt: skip
def test_what_is_no_strategy_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.py").write_text(text)
    with pytest.raises(StrategyError) as failed:
        load_strategy(name)
    assert reason in str(failed.value)


def test_who_measures_hears_of_the_parts_of_an_update() -> None:
    config, corpus, engine = setting()
    heard: list[str] = []
    driver = RoundDriver(Sync(), config, initial_state(config, corpus), lap=heard.append)
    [opened] = driver.begin(1, 1)
    assert heard == []
    documents = corpus.documents(opened.round.first, opened.round.count)
    whole = engine.gradients(opened.params, documents)
    shard = Shard(0, opened.round.count)
    driver.close(opened.number, [Result(shard, np.array(whole.losses), whole.gradient)])
    assert heard == ["rest", "tree sum", "update"]

"""Documents of a replica's own: who gets which, and that nobody is ever given another's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.simulation.arithmetic import STAND_IN, DocumentByDocument, stand_in
from lab.simulation.plan import make_plan
from lab.simulation.play import play
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.packed import PackedDocuments
from microgpt.data.shares import SHARD_BY, Shares
from microgpt.distribution import Distribution
from microgpt.engine.base import ShardGradient
from microgpt.model import GPTConfig
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import tree_sum
from microgpt.strategies import serial
from microgpt.strategies.base import Round
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.sync import Sync
from microgpt.training import initial_state

#: BOS is 9. In the order of the seed.
DOCUMENTS = [
    [9, 3, 9],
    [9, 1, 1, 9],
    [9, 2, 2, 2, 9],
    [9, 1, 9],
    [9, 3, 3, 9],
    [9, 2, 9],
    [9, 0, 9],
]


@pytest.mark.parametrize(
    ("shard_by", "parts"),
    [
        ("random", [[0, 1], [2, 3], [4, 5, 6]]),
        ("length", [[0, 3], [5, 6], [1, 2, 4]]),  # of equal ones the first come first
        ("first-letter", [[1, 6], [2, 3], [0, 4, 5]]),  # 0 1 | 1 2 | 2 3 3
    ],
)
def test_who_gets_which_documents(shard_by: str, parts: list[list[int]]) -> None:
    shares = Shares.divided(PackedDocuments.pack(DOCUMENTS), shard_by, 3)
    assert [list(part) for part in shares.parts] == [[DOCUMENTS[i] for i in p] for p in parts]


def test_without_parts_documents_are_those_of_the_round() -> None:
    shares = Shares.divided(PackedDocuments.pack(DOCUMENTS), "", 3)
    round = Round(0, 5, 6, replicas=(0, 1, 2))
    expected = [DOCUMENTS[i % 7] for i in range(5, 11)]
    assert list(shares.together(5, round.parts(), round.replicas)) == expected
    assert list(shares.documents(5, 6, replica=2)) == expected


@settings(max_examples=60, deadline=None)
@given(
    shard_by=st.sampled_from(SHARD_BY[1:]),
    number=st.integers(1, 5),
    per_replica=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 6), min_size=5, max_size=23),
)
def test_a_replica_goes_through_its_part_again_and_again(
    shard_by: str, number: int, per_replica: int, lengths: list[int]
) -> None:
    documents = [[9, place % 7, *[place] * length] for place, length in enumerate(lengths)]
    shares = Shares.divided(PackedDocuments.pack(documents), shard_by, number)
    assert sorted(d for part in shares.parts for d in part) == sorted(documents)
    sizes = {len(part) for part in shares.parts}
    assert max(sizes) - min(sizes) <= 1
    count, seen = number * per_replica, [list[Sequence[int]]() for _ in range(number)]
    for step in range(7):
        round = Round(step, step * count, count, replicas=tuple(range(number)))
        together = shares.together(round.first, round.parts(), round.replicas)
        for part, replica in zip(round.parts(), round.replicas, strict=True):
            mine = together[part.start : part.start + part.count]
            place = round.first + part.start
            assert list(mine) == list(shares.documents(place, part.count, replica))
            seen[replica] += mine
    for replica, own in enumerate(shares.parts):
        begun = list(own).index(list(seen[replica][0]))
        expected = [own[(begun + i) % len(own)] for i in range(7 * per_replica)]
        assert seen[replica] == expected, "one after the other, none left out"


def test_rounds_that_cannot_be_shared_equally_stay_within_the_parts() -> None:
    shares = Shares.divided(PackedDocuments.pack(DOCUMENTS), "first-letter", 3)
    for step in range(40):
        round = Round(step, step * 5, 5, replicas=(0, 1, 2))
        together = list(shares.together(round.first, round.parts(), round.replicas))
        for part, replica in zip(round.parts(), round.replicas, strict=True):
            own = list(shares.parts[replica])
            assert all(d in own for d in together[part.start : part.start + part.count])


def test_too_few_documents_and_unknown_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="7 documents are too few for 8 replicas"):
        Shares.divided(PackedDocuments.pack(DOCUMENTS), "length", 8)
    with pytest.raises(ValueError, match="shard_by must be one of random, length, first-letter"):
        Distribution(shard_by="weather")


@pytest.mark.parametrize("strategy", [Sync(), LocalSGD(steps=2)], ids=["sync", "local-sgd"])
def test_a_training_gives_each_replica_its_part_alone(strategy: Sync | LocalSGD) -> None:
    names = ["ada", "al", "bo", "bea", "cy", "cade", "dab", "di", "ed", "ebba"]
    corpus = Corpus(names, 42)
    model = GPTConfig(corpus.tokenizer.vocab_size, 1, 2, 1, 4)
    distribution = Distribution(replicas=5, shard_by="first-letter")
    config = TrainingConfig(model, steps=6, batch_size=10, distribution=distribution)
    corpus.divide(config)
    letters: list[set[str]] = []

    class Watched(DocumentByDocument):
        def gradients(self, params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
            letters.append({corpus.tokenizer.decode(list(d))[0] for d in documents})
            return super().gradients(params, documents)

    engine = Watched(stand_in, model.block_size)
    states = [*serial.run(strategy, config, corpus, initial_state(config, corpus), engine)]
    assert len(states) == 6
    steps = getattr(strategy, "steps", 1)
    for place, seen in enumerate(letters):
        assert seen == {"abcde"[place // steps % 5]}
    assert np.isfinite(tree_sum([state.params for state in states])).all()


@pytest.mark.parametrize("seed", range(12))
def test_the_simulated_cluster_gives_the_bits_of_the_serial_runner(seed: int) -> None:
    """With faults, resumption and states that are computed again: see ``lab.simulation``."""
    shard_by = SHARD_BY[1 + seed % 3]
    strategy = LocalSGD(steps=1) if seed % 2 else Sync()
    compress = "topk:0.3" if seed % 4 < 2 else ""
    distribution = Distribution(replicas=3, compress=compress, shard_by=shard_by)
    result = play(
        make_plan(seed, None, 0.5), STAND_IN, strategy=strategy, distribution=distribution
    )
    assert not result.problem

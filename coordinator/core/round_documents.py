"""Where the documents of rounds come from: in a run, from its corpus."""

from __future__ import annotations

from typing import Protocol

from coordinator.core.action_buffer import printable
from coordinator.core.sharding import assume_seconds, largest_shard
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.packed import PackedDocuments
from microgpt.data.shares import Shares
from microgpt.model import parameter_shapes
from microgpt.parameters import Shapes
from microgpt.protocol.messages import Failure
from microgpt.strategies.base import LocalSteps, Losses, Round


class RoundDocuments(Protocol):
    """The documents of rounds. ``shapes``: those of the model; ``largest``: documents, a power of
    two, that fit into one message of work.
    """

    shapes: Shapes
    largest: int

    def of(self, round: Round) -> PackedDocuments:
        """The documents of a round in its order, no longer than the model looks at them."""

    def assumed_seconds(self, documents: PackedDocuments) -> float:
        """What one of these may take, as long as nothing has been measured."""

    def describe(self, round: Round, failure: Failure) -> str:
        """A failure at a document of a round, for people."""


def documents_of(round: Round, shares: Shares) -> PackedDocuments:
    """The documents that a round trains on, in its order."""
    if round.replicas:
        return shares.together(round.first, round.parts(), round.replicas)
    return shares.documents(round.first, round.count)


class CorpusDocuments:
    """Those of a corpus: see ``RoundDocuments``."""

    def __init__(self, config: TrainingConfig, corpus: Corpus) -> None:
        self.shapes: Shapes = parameter_shapes(config.model)
        self.largest = max(1, largest_shard(config, corpus.longest))
        self._config, self._corpus = config, corpus
        # What lies behind the last position is of no influence, and may be long.
        last = config.model.block_size + 1
        self._shares = corpus.shares.shortened(last)
        self._held_out = corpus.validation.shortened(last)

    def of(self, round: Round) -> PackedDocuments:
        """See ``RoundDocuments``."""
        if isinstance(round.task, Losses):
            return self._held_out
        return documents_of(round, self._shares)

    def assumed_seconds(self, documents: PackedDocuments) -> float:
        """See ``RoundDocuments``."""
        return assume_seconds(self._config, documents)

    def describe(self, round: Round, failure: Failure) -> str:
        """See ``RoundDocuments``."""
        documents = self._corpus.validation
        if failure.training:
            documents = documents_of(round, self._corpus.shares)
        document = self._corpus.tokenizer.decode(documents[failure.document])
        whole = "round" if isinstance(round.task, LocalSteps) else "batch"
        place = (
            f"step {failure.step + 1}, document {failure.document + 1} of the {whole}"
            if failure.training
            else f"after step {failure.step}, held-out document {failure.document + 1}"
        )
        return (
            f"{place} ({document[:40]!r}): {printable(failure.reason, 200)}; "
            "a lower --learning-rate may help"
        )

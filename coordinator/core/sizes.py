"""How long the messages and checkpoints of a run become, as far as replicas have a part in it.

Known before the run begins, so that what could not be sent or saved is refused then, and
connections let through what a worker answers and what it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coordinator.core.work_order import snapshot_every
from microgpt.checkpoint.container import MAX_BYTES
from microgpt.compression.feedback import size_of
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.parameters import num_params
from microgpt.protocol.messages import MAX_MESSAGE_BYTES
from microgpt.replicas.recipe import recipe_of
from microgpt.replicas.state import Assignment
from microgpt.strategies.base import LocalSteps, Round, Strategy, View
from microgpt.training import TrainingState

#: Vectors as long as the weights that a checkpoint holds: weights, Adam's two, and slots of an
#: outer optimizer (two at most) and of an aggregation rule.
CHECKPOINT_VECTORS = 6
TOKEN_BYTES = LENGTH_BYTES = 4  # of a document in a task
#: Documents in one piece of work: their losses must fit into an answer beside the gradient.
LARGEST = 1 << 16
MESSAGE_REST = 1 << 16  # bytes of a message that are neither weights nor documents


class Sizes(NamedTuple):
    """Bytes at most, but for names; and ``documents``: of one replica in one round.

    ``task``: those documents as they are sent. ``answer``: a gradient or what travels instead, with
    the replica's state. ``state``: of a replica, 0 if none keeps any. ``taking_over``: what a
    worker is sent at once that goes on with another's replica. ``checkpoint``: a file.
    """

    answer: int
    state: int
    taking_over: int
    checkpoint: int
    documents: int
    task: int


def sizes_of(config: TrainingConfig, strategy: Strategy, longest: int) -> Sizes:
    """The sizes of a run; ``longest``: tokens of the longest document.

    They follow from the rounds that the strategy opens first. Raises whatever a strategy or a
    compressor of the user's own raises.
    """
    shapes, recipe = parameter_shapes(config.model), recipe_of(config)
    zeros = np.zeros(num_params(shapes))
    view = View(config, TrainingState(0, zeros, zeros, zeros, (3, (), None)), (), 0, 1, 1)
    rounds = [*strategy.open(view)]
    rounds = [round for round in rounds if round.replicas]
    layouts = [recipe.layout(_assignment(round), shapes) for round in rounds]
    vector, kept = 8 * num_params(shapes), 8 * max((sum(x.values()) for x in layouts), default=0)
    sent = vector if recipe.compressor is None else size_of(recipe.compressor, shapes)
    documents = max((part.count for round in rounds for part in round.parts()), default=0)
    tokens = min(longest, config.model.block_size + 1)
    task = documents * (LENGTH_BYTES + TOKEN_BYTES * tokens)
    if not kept:
        return Sizes(max(vector, sent), 0, vector, 3 * vector, documents, task)
    return Sizes(
        answer=max(vector, sent + kept),
        state=kept,
        taking_over=kept + (snapshot_every(shapes) + 1) * (vector + task),
        checkpoint=_checkpoint(vector, kept, view.replicas, rounds, snapshot_every(shapes)),
        documents=documents,
        task=task,
    )


def _checkpoint(vector: int, kept: int, replicas: int, rounds: Sequence[Round], every: int) -> int:
    """Of each replica its state, and the weights of its tasks since: one for all in a round."""
    together = min(len(round.replicas) for round in rounds)
    past = every * -(-replicas // together)
    return (CHECKPOINT_VECTORS + past) * vector + replicas * kept


def _assignment(round: Round) -> Assignment:
    """What a replica does in such a round."""
    task = round.task
    steps, elastic = (task.steps, task.elastic) if isinstance(task, LocalSteps) else (0, 0.0)
    return Assignment(0, 0, round.version, steps, elastic)


def unmanageable(sizes: Sizes) -> str:
    """Why the work of replicas could not be sent, or what they keep not be saved; "" if it can."""
    if sizes.documents > LARGEST:
        return (
            f"{sizes.documents:,} documents for one replica at a time are too many: at most "
            f"{LARGEST:,}; take more --replicas or a smaller --batch-size"
        )
    most, limit = (
        MAX_MESSAGE_BYTES - MESSAGE_REST,
        f"the {MAX_MESSAGE_BYTES >> 20} MiB of a message",
    )
    if sizes.task > most:
        return f"the documents of one replica exceed {limit}: take more --replicas"
    if sizes.answer > most:
        return f"a replica's answer and what it keeps exceed {limit}: choose a smaller model"
    if sizes.taking_over > most:
        return (
            "what a worker needs to go on with another one's replica exceeds "
            f"{MAX_MESSAGE_BYTES >> 20} MiB: choose a smaller model or more --replicas"
        )
    if sizes.state and sizes.checkpoint > MAX_BYTES:
        return (
            f"a checkpoint with all replicas could have {sizes.checkpoint >> 20:,} MiB, and at "
            f"most {MAX_BYTES >> 20:,} can be read: take fewer --replicas or a smaller model"
        )
    return ""

"""Checkpoints: everything needed to go on, in one msgpack file that is never half there.

A file is the map ``{"format", "version", "sha256", "body"}``; ``body`` is itself packed msgpack, so
its digest covers every byte that matters. Saving writes beside, syncs, renames and syncs the
directory. Loading trusts nothing: a file may be truncated, flipped, foreign or hostile.

Needs msgpack and nothing else: no NumPy, no sockets.

Longer than 300 lines because the whole format, with what is checked of it, stands here.
"""

from __future__ import annotations

import math
import os
import random
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import msgpack

from microgpt.checkpoint import replicas
from microgpt.checkpoint.container import (
    BEGINNING,
    FORMAT,
    MAX_BYTES,
    MAX_LIST,
    VERSION,
    CheckpointError,
    Problem,
    check_beginning,
    open_container,
    seal,
    unpack,
)
from microgpt.checkpoint.replicas import Distributed
from microgpt.config import MAX_STEPS, TrainingConfig
from microgpt.distribution import Distribution
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.optim.adam import AdamConfig
from microgpt.parameters import (
    Shapes,
    StateDict,
    all_finite,
    from_bytes,
    join_bytes,
    num_params,
    sha256,
    split_bytes,
    unflatten,
)
from microgpt.support.atomic import write_atomically
from microgpt.tokenizer import Tokenizer

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "VERSION",
    "Checkpoint",
    "CheckpointError",
    "Problem",
    "RngState",
    "Validation",
    "decode",
    "encode",
    "from_body",
    "load",
    "save",
    "to_body",
    "write_atomically",
]

RNG_WORDS = 625  # of the Mersenne Twister: 624 words of state and the position
_WORDS = struct.Struct(f"<{RNG_WORDS}I")
#: Entries of all lists and maps of a body together: some bytes must not become gigabytes.
MAX_ENTRIES = 500_000  # 18 for a layer, and up to about 80 for a replica
MAX_DOCUMENT = 2**63 - 1  # the place of the next document
MAX_REASON = 300  # letters of an error

#: What is raised where a body is not made as expected.
_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError)


def _hold_nothing_out(body: Any) -> Any:
    """Version 2 knows documents that are held out, and their loss."""
    _require_absent(body, "validation")
    training = {**body["training"], "validation_fraction": 0.0}
    return {**body, "training": training, "validation": None}


def _train_in_step(body: Any) -> Any:
    """Version 3 knows strategies, and which documents they have used up: ``sync`` all, in order."""
    _require_absent(body, "next_document")
    training = {**body["training"], "strategy": "sync", "strategy_options": {}}
    step, batch_size = body["step"], training["batch_size"]
    if type(step) is not int or type(batch_size) is not int:  # the product could be anything
        raise ValueError("the step or the batch size is not a whole number")
    return {**body, "training": training, "next_document": step * batch_size}


def _divide_nothing(body: Any) -> Any:
    """Version 4 knows replicas, and what strategies keep beside Adam's means."""
    _require_absent(body, "distributed")
    training = {**body["training"], "distribution": Distribution().to_dict()}
    return {**body, "training": training, "distributed": replicas.to_plain(Distributed())}


def _keep_the_rate(body: Any) -> Any:
    """Version 5 knows a learning rate that has been changed while the run went on."""
    _require_absent(body, "learning_rate")
    return {**body, "learning_rate": None}


def _require_absent(body: Any, key: str) -> None:
    """Raise ValueError if a body has what its version does not know.

    The digest does not cover the version: one that is damaged must not pass for an older one.
    """
    if key in body:
        raise ValueError(f"it has {key!r}, which its version does not know")


#: What makes a body of the next version of each older one.
MIGRATIONS: dict[int, Callable[[Any], Any]] = {
    1: _hold_nothing_out,
    2: _train_in_step,
    3: _divide_nothing,
    4: _keep_the_rate,
}

#: What ``random.Random.getstate`` returns.
RngState: TypeAlias = tuple[int, tuple[int, ...], float | None]


class Validation(NamedTuple):
    """``loss``: mean over the held-out documents in nats per token, after ``step`` updates."""

    step: int
    loss: float


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """The state of a training after ``step`` updates.

    ``weights``, ``adam_m`` and ``adam_v`` are canonical flat vectors as little-endian binary64.
    ``losses`` are the batch losses of the last steps, newest last, and ``validation`` the newest
    one of the held-out documents. ``next_document``: how many documents have been used up, which
    is where the next one begins in their endless repetition. ``data`` is the fingerprint of the
    data set, ``run`` the id of the run that wrote the file. ``distributed``: what the strategy and
    the replicas keep. ``learning_rate``: the one that holds in place of that of ``training``, if
    it has been changed.
    """

    training: TrainingConfig
    tokenizer: Tokenizer
    data: Mapping[str, str | int]
    run: str
    step: int
    weights: bytes
    adam_m: bytes
    adam_v: bytes
    rng_state: RngState
    losses: tuple[float, ...] = ()
    validation: Validation | None = None
    next_document: int = field(kw_only=True)
    distributed: Distributed = field(default_factory=Distributed, kw_only=True)
    learning_rate: float | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        where = f"step {self.step} of {self.training.steps}"
        return f"Checkpoint(run {self.run!r:.40}, {where}, {self.num_params:,} parameters)"

    @property
    def shapes(self) -> Shapes:
        """Shapes of the parameter matrices in canonical order."""
        return parameter_shapes(self.training.model)

    @property
    def num_params(self) -> int:
        """How many weights there are."""
        return num_params(self.shapes)

    @property
    def params_sha256(self) -> str:
        """Digest of the weights as little-endian float64 in canonical order."""
        return sha256(self.weights)

    @property
    def state_sha256(self) -> str:
        """Digest of all that decides the future: weights, Adam's m and v, step, generator.

        And the next document, where it is not the one that ``sync`` has after as many steps, what
        the strategy keeps, and a learning rate that has been changed. What replicas keep is decided
        by the same past.
        """
        step = self.step.to_bytes(8, "little")
        gauss = self.rng_state[2]
        rng = _pack_words(self.rng_state[1]) + (b"" if gauss is None else gauss.hex().encode())
        usual = self.next_document == self.step * self.training.batch_size
        used = b"" if usual else self.next_document.to_bytes(8, "little")
        slots = self.distributed.slots
        kept = [part for name in sorted(slots) for part in (name.encode(), slots[name])]
        if self.learning_rate is not None:
            kept += [b"learning_rate", struct.pack("<d", self.learning_rate)]
        return sha256(self.weights, self.adam_m, self.adam_v, step, rng, used, *kept)

    def state_dict(self) -> StateDict:
        """The weights as ``{name: rows of floats}``."""
        return unflatten(from_bytes(self.weights), self.shapes)

    def rng(self) -> random.Random:
        """A new generator that goes on where the training's stands."""
        generator = random.Random()
        generator.setstate(self.rng_state)
        return generator


def encode(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint file."""
    return seal(msgpack.packb(to_body(checkpoint)))


def decode(data: bytes, where: str) -> Checkpoint:
    """The checkpoint in ``data``; ``where`` is named in errors. Raises CheckpointError."""
    version, body = open_container(data, where)
    try:
        unpacked = unpack(body, MAX_ENTRIES)
    except (*_WRONG, RecursionError, MemoryError, msgpack.OutOfData) as error:
        raise _incomplete(where, error) from error
    return from_body(unpacked, where, version)


def to_body(checkpoint: Checkpoint) -> dict[str, Any]:
    """All that a checkpoint holds, as plain values and bytes."""
    shapes = checkpoint.shapes
    version, words, gauss_next = checkpoint.rng_state
    return {
        "training": checkpoint.training.to_dict(),
        "tokenizer": {"chars": checkpoint.tokenizer.chars},
        "data": dict(checkpoint.data),
        "run": checkpoint.run,
        "step": checkpoint.step,
        "next_document": checkpoint.next_document,
        "weights": split_bytes(checkpoint.weights, shapes),
        "adam_m": split_bytes(checkpoint.adam_m, shapes),
        "adam_v": split_bytes(checkpoint.adam_v, shapes),
        "rng": {"version": version, "words": _pack_words(words), "gauss_next": gauss_next},
        "losses": list(checkpoint.losses),
        "validation": checkpoint.validation and checkpoint.validation._asdict(),
        "distributed": replicas.to_plain(checkpoint.distributed),
        "learning_rate": checkpoint.learning_rate,
    }


def from_body(body: Any, where: str, version: int = VERSION) -> Checkpoint:
    """The inverse of ``to_body`` for whatever a file of any version holds.

    Raises CheckpointError.
    """
    try:
        for older in range(version, VERSION):
            body = MIGRATIONS[older](body)
        return _read_body(body)
    except _WRONG as error:
        raise _incomplete(where, error) from error


def _incomplete(where: str, error: Exception) -> CheckpointError:
    reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    if len(reason) > MAX_REASON:  # it may show what was found
        reason = reason[:MAX_REASON] + "..."
    return CheckpointError(
        f"{where} does not hold a complete checkpoint: {reason}", Problem.DAMAGED
    )


def _read_body(body: Any) -> Checkpoint:
    training = TrainingConfig.from_dict(body["training"])
    if training.model.n_layer > len(body["weights"]):  # before a name is made for every layer
        raise ValueError("there are fewer weights than layers")
    shapes = parameter_shapes(training.model)
    weights, m, v = (join_bytes(body[key], shapes) for key in ("weights", "adam_m", "adam_v"))
    if not all(all_finite(from_bytes(part)) for part in (weights, m, v)):
        raise ValueError("a weight or a state of Adam is not a finite number")
    if min(from_bytes(v), default=0.0) < 0.0:
        raise ValueError("a mean square of Adam is negative")
    step, run, data, losses = body["step"], body["run"], body["data"], body["losses"]
    if type(step) is not int or not 0 <= step <= MAX_STEPS:
        raise ValueError("the step is not a whole number, or beyond any training")
    next_document = body["next_document"]
    if type(next_document) is not int or not 0 <= next_document <= MAX_DOCUMENT:
        raise ValueError("the next document is not a whole number, or beyond any training")
    if not _is_text(run) or not isinstance(data, dict) or not isinstance(losses, list):
        raise ValueError("the run, the data's fingerprint or the losses are of another type")
    if not all(_is_text(k) and (_is_text(v) or _is_integer(v)) for k, v in data.items()):
        raise ValueError("the data's fingerprint is not made of texts and whole numbers")
    if max(len(data), len(losses)) > MAX_LIST:
        raise ValueError("there are more losses or marks of the data than any training leaves")
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in losses):
        raise ValueError("a loss is not a finite number")
    tokenizer = Tokenizer(body["tokenizer"]["chars"])
    if not _is_text(tokenizer.chars):
        raise ValueError("the alphabet is no text")
    if tokenizer.vocab_size != training.model.vocab_size:
        raise ValueError("the alphabet does not fit the model")
    rng_state, validation = _read_rng(body["rng"]), _read_validation(body["validation"], step)
    distributed = replicas.from_plain(body["distributed"], num_params(shapes))
    rate = body["learning_rate"]
    if rate is not None:
        rate = AdamConfig(learning_rate=rate).learning_rate  # raises ValueError if it cannot be
    return Checkpoint(
        training, tokenizer, data, run, step, weights, m, v, rng_state, tuple(losses), validation,
        next_document=next_document, distributed=distributed, learning_rate=rate,
    )  # fmt: skip


def _is_text(value: Any) -> bool:
    """Whether it is a text that can be written: half a pair of surrogates cannot."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _is_integer(value: Any) -> bool:
    """Whether it is a whole number that msgpack can hold."""
    return type(value) is int and -(2**63) <= value < 2**64


def _read_validation(validation: Any, last: int) -> Validation | None:
    if validation is None:
        return None
    if not isinstance(validation, dict) or validation.keys() != set(Validation._fields):
        raise ValueError("the validation is not a step and a loss")
    step, loss = validation["step"], validation["loss"]
    if type(step) is not int or not 0 <= step <= last:
        raise ValueError("the validation is of a step that has not been made")
    if not isinstance(loss, float) or not math.isfinite(loss):
        raise ValueError("the loss of the validation is not a finite number")
    return Validation(step, loss)


def _read_rng(rng: Any) -> RngState:
    words, gauss_next = rng["words"], rng["gauss_next"]
    if not isinstance(words, bytes) or len(words) != 4 * RNG_WORDS:
        raise ValueError("the generator's state has another size")
    if gauss_next is not None and not isinstance(gauss_next, float):
        raise ValueError("the generator's state is of another type")
    state: RngState = (rng["version"], _WORDS.unpack(words), gauss_next)
    random.Random().setstate(state)  # raises ValueError or TypeError if it cannot be one
    return state


def _pack_words(words: tuple[int, ...]) -> bytes:
    return _WORDS.pack(*words)


def load(path: str | os.PathLike[str], model: GPTConfig | None = None) -> Checkpoint:
    """Read and verify a checkpoint file, of this ``model`` if one is expected.

    Raises CheckpointError, whose ``problem`` says what is wrong.
    """
    try:
        data = _read(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist", Problem.MISSING) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read: {reason}") from error
    loaded = decode(data, str(path))
    check_model(loaded, model, path)
    return loaded


def check_model(loaded: Checkpoint, model: GPTConfig | None, path: str | os.PathLike[str]) -> None:
    """Raise CheckpointError if another model is expected than that of ``path``."""
    if model is not None and loaded.training.model != model:
        raise CheckpointError(
            f"{path} is of another model: {_differences(loaded.training.model, model)}",
            Problem.OTHER_MODEL,
        )


def _read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file that begins like a checkpoint; of any other file hardly any are read."""
    status = os.stat(path)  # before opening: a pipe may never have a writer
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise CheckpointError(f"{path} is not a file, so not a checkpoint", Problem.FOREIGN)
    if status.st_size > MAX_BYTES:
        raise CheckpointError(
            f"{path} is larger than any checkpoint of this program", Problem.FOREIGN
        )
    with open(path, "rb") as file:
        beginning = file.read(1 + len(BEGINNING))
        check_beginning(beginning, str(path))
        return beginning + file.read(MAX_BYTES)


def _differences(found: GPTConfig, expected: GPTConfig) -> str:
    """Which settings differ."""
    theirs, ours = found.to_dict(), expected.to_dict()
    return ", ".join(f"{k} {theirs[k]}, not {ours[k]}" for k in ours if theirs[k] != ours[k])


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically and durably. Raises CheckpointError."""
    write_atomically(path, encode(checkpoint))

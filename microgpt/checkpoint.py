"""Checkpoints: everything needed to go on, in one msgpack file that is never half there.

A file is the map ``{"format", "version", "sha256", "body"}``; ``body`` is itself packed msgpack, so
its digest covers every byte that matters. Saving writes beside, syncs, renames and syncs the
directory. Loading trusts nothing: a file may be truncated, flipped, foreign or hostile.

Needs msgpack and nothing else: no NumPy, no sockets.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgpack

from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
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
from microgpt.tokenizer import Tokenizer

FORMAT = "microgpt-checkpoint"
VERSION = 1
MAX_BYTES = 1 << 30
RNG_WORDS = 625  # of the Mersenne Twister: 624 words of state and the position

#: What ``random.Random.getstate`` returns.
RngState: TypeAlias = tuple[int, tuple[int, ...], float | None]


class CheckpointError(Exception):
    """A checkpoint cannot be read or written; the message is one plain sentence with the path."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after ``step`` updates.

    ``weights``, ``adam_m`` and ``adam_v`` are canonical flat vectors as little-endian binary64.
    ``losses`` are the batch losses of the last steps, newest last. ``data`` is the fingerprint of
    the data set, ``run`` the id of the run that wrote the file.
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
        """Digest of all that decides the future: weights, Adam's m and v, step, generator."""
        step = self.step.to_bytes(8, "little")
        gauss = self.rng_state[2]
        rng = _pack_words(self.rng_state[1]) + (b"" if gauss is None else gauss.hex().encode())
        return sha256(self.weights, self.adam_m, self.adam_v, step, rng)

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
    shapes = checkpoint.shapes
    version, words, gauss_next = checkpoint.rng_state
    body: bytes = msgpack.packb(
        {
            "training": checkpoint.training.to_dict(),
            "tokenizer": {"chars": checkpoint.tokenizer.chars},
            "data": dict(checkpoint.data),
            "run": checkpoint.run,
            "step": checkpoint.step,
            "weights": split_bytes(checkpoint.weights, shapes),
            "adam_m": split_bytes(checkpoint.adam_m, shapes),
            "adam_v": split_bytes(checkpoint.adam_v, shapes),
            "rng": {"version": version, "words": _pack_words(words), "gauss_next": gauss_next},
            "losses": list(checkpoint.losses),
        }
    )
    outer = {"format": FORMAT, "version": VERSION, "sha256": sha256(body), "body": body}
    packed: bytes = msgpack.packb(outer)
    return packed


def decode(data: bytes, where: str) -> Checkpoint:
    """The checkpoint in ``data``; ``where`` is named in errors. Raises CheckpointError."""
    body = _open_envelope(data, where)
    try:
        return _read_body(msgpack.unpackb(body))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{where} does not hold a complete checkpoint: {error}") from error


def _open_envelope(data: bytes, where: str) -> bytes:
    """The digest-checked body of a file."""
    if not data:
        raise CheckpointError(f"{where} is empty: not a checkpoint")
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_BYTES)
    unpacker.feed(data)
    try:
        outer = unpacker.unpack()
    except msgpack.OutOfData as error:
        raise CheckpointError(
            f"{where} is truncated, or not a checkpoint: it ends after {len(data)} bytes"
        ) from error
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise CheckpointError(f"{where} is not a checkpoint, or damaged: {error}") from error
    if not isinstance(outer, dict) or outer.get("format") != FORMAT:
        raise CheckpointError(f"{where} is not a checkpoint of this program")
    version, body = outer.get("version"), outer.get("body")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{where} is damaged: it has no format version")
    if version > VERSION:
        raise CheckpointError(
            f"{where} has format {version}; this program reads up to {VERSION}: update the program"
        )
    if not isinstance(body, bytes) or sha256(body) != outer.get("sha256"):
        raise CheckpointError(f"{where} is damaged: its digest does not match its contents")
    if unpacker.tell() != len(data):
        raise CheckpointError(f"{where} is damaged: it goes on after the checkpoint's end")
    return body


def _read_body(body: Any) -> Checkpoint:
    training = TrainingConfig.from_dict(body["training"])
    if training.model.n_layer > len(body["weights"]):  # before a name is made for every layer
        raise ValueError("there are fewer weights than layers")
    shapes = parameter_shapes(training.model)
    weights, m, v = (join_bytes(body[key], shapes) for key in ("weights", "adam_m", "adam_v"))
    if not all(all_finite(from_bytes(part)) for part in (weights, m, v)):
        raise ValueError("a weight or a state of Adam is not a finite number")
    if any(x < 0.0 for x in from_bytes(v)):
        raise ValueError("a mean square of Adam is negative")
    step, run, data, losses = body["step"], body["run"], body["data"], body["losses"]
    if type(step) is not int or not 0 <= step < 2**63:
        raise ValueError("the step is not a whole number")
    if not isinstance(run, str) or not isinstance(data, dict) or not isinstance(losses, list):
        raise ValueError("the run, the data's fingerprint or the losses are of another type")
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in losses):
        raise ValueError("a loss is not a finite number")
    tokenizer = Tokenizer(body["tokenizer"]["chars"])
    if tokenizer.vocab_size != training.model.vocab_size:
        raise ValueError("the alphabet does not fit the model")
    rng_state = _read_rng(body["rng"])
    return Checkpoint(training, tokenizer, data, run, step, weights, m, v, rng_state, tuple(losses))


def _read_rng(rng: Any) -> RngState:
    words, gauss_next = rng["words"], rng["gauss_next"]
    if not isinstance(words, bytes) or len(words) != 4 * RNG_WORDS:
        raise ValueError("the generator's state has another size")
    if gauss_next is not None and not isinstance(gauss_next, float):
        raise ValueError("the generator's state is of another type")
    numbers = tuple(int.from_bytes(words[at : at + 4], "little") for at in range(0, len(words), 4))
    state: RngState = (rng["version"], numbers, gauss_next)
    random.Random().setstate(state)  # raises ValueError or TypeError if it cannot be one
    return state


def _pack_words(words: tuple[int, ...]) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a checkpoint file. Raises CheckpointError, saying what is wrong with it."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise CheckpointError(f"{path} is larger than any checkpoint of this program")
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return decode(data, str(path))


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Put ``data`` at ``path``, durably, so that a reader sees the old file or the whole new one.

    Raises CheckpointError; nothing is left behind then.
    """
    path = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise CheckpointError(f"{path} cannot be written: {error.strerror}") from error


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically and durably. Raises CheckpointError."""
    write_atomically(path, encode(checkpoint))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

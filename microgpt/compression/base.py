"""The seam between gradients and the wire: what a compressor is asked.

A compressor turns one vector (a gradient, or the change of some weights) into a payload, and a
payload into the vector that its receiver takes for it. Payloads have no header: sizes and places
follow from the shapes and the options, which both ends know. Numbers in them are little-endian.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from microgpt.numerics.vectors import Vector, all_finite
from microgpt.parameters import Shapes, num_params

#: What a compressor remembers from one round to the next, by name; kept for each replica.
Slots: TypeAlias = Mapping[str, Vector]


class CompressionError(Exception):
    """A vector cannot be sent, a payload not be read or a compressor not be used: one sentence."""


class Compressor(Protocol):
    """How a vector travels. All methods are pure: the answer depends on the arguments alone.

    A compressor is a frozen dataclass; its fields are its options, of type int, float, bool or
    str, each with a default. One that inherits from this class need only define ``compress``,
    ``decompress`` and ``size``. Vectors are (num_params,) float64, the matrices of ``shapes`` one
    after the other. ``seed`` is a whole number from 0; it is the same at both ends and should be
    another one for every vector, so that what is drawn at random need not travel.
    """

    @property
    def feedback(self) -> bool:
        """Whether error feedback (see ``feedback``) helps, and is used unless the user decides."""
        return True

    def init(self, shapes: Shapes) -> dict[str, Vector]:
        """What a replica remembers before its first round."""
        return {}

    @abstractmethod
    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The payload for a vector, and what the replica remembers from now on.

        Raises CompressionError for numbers that are not finite. Any finite vector makes a payload
        that ``decompress`` accepts.
        """
        ...

    @abstractmethod
    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """The vector that a payload stands for, all of it finite.

        The payload may come from anybody: raises CompressionError for what ``compress`` cannot
        have made.
        """
        ...

    @abstractmethod
    def size(self, shapes: Shapes) -> int:
        """How many bytes a payload has; where that varies, the most."""
        ...

    def combine(self, vectors: Sequence[Vector]) -> Vector | None:
        """How the vectors of all replicas become one, if not by their mean (None)."""
        return None


def checked(vector: Vector, shapes: Shapes) -> Vector:
    """The vector itself. Raises CompressionError if it does not fit the shapes or is not finite."""
    if vector.shape != (num_params(shapes),):
        raise CompressionError(f"{vector.size} numbers do not fill {num_params(shapes)} parameters")
    if not all_finite(vector):
        raise CompressionError("a gradient with infinite numbers or NaN cannot be compressed")
    return vector


def check_whole(name: str, value: int, least: int, most: int) -> None:
    """Raise ValueError unless an option is a whole number within its bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value!r}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless an option is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(choices)}, not {value!r}")


def check_density(value: float) -> None:
    """Raise ValueError unless an option is the share of numbers that are sent, in (0, 1]."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 < value <= 1.0:
        raise ValueError(f"density must be above 0 and at most 1, not {value!r}")

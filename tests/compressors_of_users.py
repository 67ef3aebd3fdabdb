"""Compressors and an optimizer as users write them, some of them wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.compression.base import CompressionError, Compressor, checked
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes, num_params


@dataclass(frozen=True)
class Every(Compressor):
    """Sends each n-th number, and other ones in every round."""

    n: int = 4

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Any, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        return checked(vector, shapes)[seed % self.n :: self.n].astype("<f8").tobytes(), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        vector = np.zeros(num_params(shapes))
        places = vector[seed % self.n :: self.n]
        if len(payload) != 8 * len(places):
            raise CompressionError(f"the payload has {len(payload)} bytes")
        places[:] = np.frombuffer(payload, "<f8")
        return vector

    def size(self, shapes: Shapes) -> int:
        return 8 * -(-num_params(shapes) // self.n)


@dataclass(frozen=True)
class Wrong(Every):
    """Does something wrong, as ``how`` says."""

    how: str = "raises"

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Any, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        payload, kept = super().compress(vector, shapes, slots, seed)
        if self.how == "raises":
            raise KeyError("on purpose")
        if self.how == "within numpy":
            np.frombuffer(payload[:3], "<f8")
        changed: dict[str, Any] = {
            "no bytes": (vector, {}),
            "one thing": payload,
            "long": (bytes(10_000_000), {}),
            "slots": (payload, {"mine": [1.0]}),
        }
        given: tuple[bytes, dict[str, Vector]] = changed.get(self.how, (payload, kept))
        return given

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        if self.how == "decompress":
            raise ZeroDivisionError("on purpose")
        if self.how == "refuses":
            raise CompressionError("no such payload")
        vector = super().decompress(payload, shapes, seed)
        changed: dict[str, Any] = {
            "shape": vector[1:], "kind": vector.tolist(), "nan": vector * np.nan,
        }  # fmt: skip
        given: Vector = changed.get(self.how, vector)
        return given


@dataclass(frozen=True)
class Signature(Every):
    """Does not take what it is given."""

    def compress(self, vector: Vector) -> bytes:  # type: ignore[override]  # that is the mistake
        return vector.tobytes()


@dataclass(frozen=True)
class Falls:
    """An optimizer: plain steps, with a rate of its own."""

    learning_rate: float = 0.5

    def init(self, num_params: int) -> dict[str, Vector]:
        return {}

    def update(
        self, params: Vector, gradient: Vector, slots: Any, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        return params - rate * gradient, {}

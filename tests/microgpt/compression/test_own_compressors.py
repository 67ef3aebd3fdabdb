"""Whatever a user's compressor or optimizer does wrong is one sentence with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microgpt.compression.registry import load_compressor
from microgpt.engine.base import ShardGradient
from microgpt.optim.registry import load_optimizer
from microgpt.replicas.state import Assignment, ReplicaState
from microgpt.replicas.work import Recipe, compute
from microgpt.support.user_class import OwnCodeError

FILE = Path(__file__).resolve().parents[2] / "compressors_of_users.py"
SHAPES = {"w": (3, 4)}


class Ones:
    """An engine whose gradients are ones."""

    name = "ones"

    def gradients(self, params: object, documents: object) -> ShardGradient:
        return ShardGradient((1.0,), np.ones(12))

    def losses(self, params: object, documents: object) -> tuple[float, ...]:
        return (1.0,)


def run(recipe: Recipe, steps: int = 0) -> None:
    assignment = Assignment(0, 0, 0, steps)
    compute(recipe, assignment, SHAPES, np.zeros(12), [[1, 2]], ReplicaState(), Ones())


def line_with(text: str) -> int:
    lines = FILE.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "compress raises KeyError: 'on purpose'"),
        ("within numpy", "compress raises ValueError: buffer size"),
        ("no bytes", "compress raises TypeError: the payload is a ndarray, no bytes"),
        ("one thing", "compress raises ValueError: too many values to unpack"),
        ("long", "the payload has 10000000 bytes, more than 24"),
        ("slots", "compress raises TypeError: it gives no vector of 1 float64 numbers"),
        ("decompress", "decompress raises ZeroDivisionError: on purpose"),
        ("refuses", "compressor Wrong: no such payload"),
        ("shape", "compressor Wrong: 11 numbers do not fill 12 parameters"),
        ("kind", "compressor Wrong: what was decompressed is no vector of float64"),
        ("nan", "compressor Wrong: what was decompressed is not finite"),
    ],
)
def test_what_a_compressor_does_wrong_is_told(how: str, said: str) -> None:
    wrong = load_compressor(f"{FILE}:Wrong:n=4,how={how}")
    with pytest.raises(OwnCodeError) as caught:
        run(Recipe(load_optimizer("sgd"), wrong))
    assert said in str(caught.value)
    lines = {"raises": 'raise KeyError("on', "within numpy": "payload[:3]", "decompress": "raise Z"}
    if how in lines:
        assert f"(line {line_with(lines[how])} of {FILE.name})" in str(caught.value)


def test_a_wrong_signature_is_shown_where_it_is() -> None:
    with pytest.raises(OwnCodeError, match="takes 2 positional arguments but 5") as caught:
        run(Recipe(load_optimizer("sgd"), load_compressor(f"{FILE}:Signature")))
    line = line_with("def compress(self, vector: Vector) -> bytes")
    assert f"(line {line} of {FILE.name})" in str(caught.value)


def test_an_optimizer_that_gives_no_weights_is_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    text = FILE.read_text().replace("return params - rate * gradient, {}", "return None, {}")
    mine.write_text(text)
    with pytest.raises(OwnCodeError, match="Falls: update raises TypeError: it gives no vector"):
        run(Recipe(load_optimizer(f"{mine}:Falls")), steps=1)
    mine.write_text(text.replace("return None", "return 1 // 0"))
    with pytest.raises(OwnCodeError, match=r"ZeroDivisionError: .* \(line \d+ of mine.py\)"):
        run(Recipe(load_optimizer(f"{mine}:Falls")), steps=1)

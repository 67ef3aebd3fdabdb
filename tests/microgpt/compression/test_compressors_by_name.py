from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from microgpt.compression import registry
from microgpt.compression.base import CompressionError
from microgpt.compression.feedback import compress, decompress, first_residual
from microgpt.compression.qsgd import QSGD
from microgpt.compression.registry import COMPRESSORS, describe_compressor, load_compressor
from microgpt.compression.topk import TopK
from tests.microgpt.compression.inputs import NAMES, SMALL, SPECS, gradient

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "compression.md").read_text()
USE, EVERY = re.findall(r"```python\n(.*?)```", PAGE, re.S)
BROKEN = """
@dataclass(frozen=True)
class NoSize(Compressor):
    def compress(self, vector, shapes, slots, seed):
        return b"", {}

    def decompress(self, payload, shapes, seed):
        return np.zeros(num_params(shapes))

@dataclass(frozen=True)
class Wrong(NoSize):
    how: str = "nan"

    def decompress(self, payload, shapes, seed):
        right = np.zeros(num_params(shapes))
        return {"nan": right * np.nan, "short": right[1:], "list": right.tolist()}[self.how]

    def size(self, shapes):
        return 3

@dataclass(frozen=True)
class Bare:
    def compress(self, vector, shapes, slots, seed):
        return b"", {}

broken = 1
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own.py"
    file.write_text(EVERY + BROKEN)
    return str(file)


def test_the_names_are_those_of_the_files() -> None:
    folder = Path(registry.__file__).parent
    others = {"__init__", "base", "wire", "feedback", "registry"}
    assert {file.stem for file in folder.glob("*.py")} - others == COMPRESSORS.keys()


def test_a_value_without_a_name_is_the_first_option() -> None:
    assert load_compressor("topk:0.25") == TopK(density=0.25)
    assert load_compressor("qsgd:levels=3,norm=max") == QSGD(3, 512, "max")


@pytest.mark.parametrize("spec", SPECS)
def test_the_full_text_of_a_compressor_makes_an_equal_one(spec: str) -> None:
    compressor = load_compressor(spec)
    assert load_compressor(describe_compressor(compressor)) == compressor


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("topp", "there is no compressor 'topp': did you mean topk?"),
        ("topk:", "is not of the form"),
        ("topk:0", "density must be above 0 and at most 1, not 0.0"),
        ("topk:1.5", "density must be above 0"),
        ("topk:nan", "density must be above 0"),
        ("topk:half", "option density wants a number, not 'half'"),
        ("randomk:density=-1", "density must be above 0"),
        ("int8:up", "rounding must be nearest or stochastic, not 'up'"),
        ("qsgd:0", "levels must be a whole number from 1 to 32767, not 0"),
        ("qsgd:40000", "levels must be a whole number from 1 to 32767"),
        ("qsgd:bucket=0", "bucket must be a whole number from 1"),
        ("qsgd:norm=l1", "norm must be l2 or max, not 'l1'"),
        ("onebit:row", "per must be matrix or column, not 'row'"),
        ("powersgd:0", "rank must be a whole number from 1"),
        ("powersgd:tall=2", "has no option 'tall'"),
        ("f32:1", "it has no options"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(spec: str, why: str) -> None:
    with pytest.raises(CompressionError) as caught:
        load_compressor(spec)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compressor_of_a_user_needs_three_methods(own: str) -> None:
    compressor = load_compressor(f"{own}:Every:n=5")
    assert compressor.feedback
    assert compressor.init(SMALL) == {}
    assert compressor.combine([gradient(1)]) is None
    full = describe_compressor(compressor)
    assert describe_compressor(load_compressor(full)) == full == f"{own}:Every:n=5"
    vector, residual, total = gradient(1), first_residual(SMALL), np.zeros(47)
    for seed in range(5):
        done = compress(compressor, vector, SMALL, residual, {}, seed)
        assert len(done.payload) <= compressor.size(SMALL) == 80
        assert done.residual is not None
        residual = done.residual
        total += done.sent
    assert (total != 0.0).tolist() == (vector != 0.0).tolist()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NoSize", "size"),
        ("Bare", "has no 'feedback'"),
        ("broken", "has no class 'broken'"),
        ("Every:n=many", "option n wants a whole number"),
    ],
)
def test_a_broken_compressor_of_a_user_is_refused(own: str, name: str, why: str) -> None:
    with pytest.raises(CompressionError, match=why):
        load_compressor(f"{own}:{name}")


@pytest.mark.parametrize("how", ["nan", "short", "list"])
def test_what_a_compressor_of_a_user_decodes_is_looked_at(own: str, how: str) -> None:
    compressor = load_compressor(f"{own}:Wrong:{how}")
    with pytest.raises(CompressionError):
        decompress(compressor, b"", SMALL, 0)
    with pytest.raises(CompressionError):
        compress(compressor, gradient(1), SMALL, None, {}, 0)


def test_a_payload_longer_than_a_compressor_says_is_not_even_decoded(own: str) -> None:
    with pytest.raises(CompressionError, match="has 4 bytes, more than 3"):
        decompress(load_compressor(f"{own}:Wrong:short"), bytes(4), SMALL, 0)


def test_the_page_tells_sizes_and_defaults_as_they_are() -> None:
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) % \| (on|off) \|", PAGE, re.M)
    assert {name.partition(":")[0] for name, *_ in rows} == COMPRESSORS.keys()
    for spec, size, share, feedback in rows:
        compressor = load_compressor(spec)
        assert f"{compressor.size(NAMES):,}" == size
        assert f"{compressor.size(NAMES) / 33_536:.1%}" == f"{share}%"
        assert compressor.feedback is (feedback == "on")


def test_the_example_of_the_page_runs() -> None:
    names = {"shapes": SMALL, "gradients": [gradient(1), gradient(2), gradient(3)]}
    exec(compile(USE, "docs/compression.md", "exec"), names)  # noqa: S102  # our own page
    assert "payload" in names

"""The compiled forward pass: the same bits as plain floats, whatever is asked in whatever order."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt
from microgpt.checkpoint import format as checkpoint_format
from microgpt.engine import forward
from microgpt.engine.forward import compiled
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import init_parameters, unflatten
from microgpt.sampling import generate, plain
from microgpt.tokenizer import Tokenizer
from tests.processes import ROOT
from tests.tiny import make_tiny

SAMPLE = str(ROOT / "scripts/sample.py")

CONFIGS = [
    GPTConfig(vocab_size=27, n_layer=1, n_embd=16, n_head=4, block_size=16),
    GPTConfig(vocab_size=5, n_layer=2, n_embd=6, n_head=3, block_size=5),
    GPTConfig(vocab_size=2, n_layer=1, n_embd=4, n_head=1, block_size=1),
    GPTConfig(vocab_size=40, n_layer=3, n_embd=10, n_head=2, block_size=3),
]


def weights_of(config: GPTConfig, scale: float = 5.0, seed: int = 1) -> list[float]:
    drawn = init_parameters(parameter_shapes(config), random.Random(seed))
    return [scale * x for x in drawn]


@pytest.mark.parametrize("config", CONFIGS)
def test_logits_have_the_same_bits(config: GPTConfig) -> None:
    rng = random.Random(2)
    for scale in (1.0, 40.0):
        flat = weights_of(config, scale)
        fast = compiled(np.array(flat), config)
        slow = plain(unflatten(flat, parameter_shapes(config)), config)
        for _ in range(4):
            for position in range(rng.randrange(config.block_size) + 1):
                token = rng.randrange(config.vocab_size)
                theirs, ours = fast(token, position), slow(token, position)
                assert [x.hex() for x in theirs] == [x.hex() for x in ours]


@pytest.mark.parametrize("config", CONFIGS[:3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.3},
        {"top_k": 3},
        {"top_p": 0.8, "temperature": 2.0},
        {"prompt": "a"},
        {"temperature": 0.0},
    ],
)
def test_documents_and_draws_are_the_same(config: GPTConfig, options: dict[str, Any]) -> None:
    if len(options.get("prompt", "")) >= config.block_size:
        options = {}
    tokenizer = Tokenizer("".join(chr(97 + i) for i in range(config.vocab_size - 1)))
    flat = weights_of(config)
    params = unflatten(flat, parameter_shapes(config))
    fast = compiled(np.array(flat), config)
    slow_rng, fast_rng = random.Random(3), random.Random(3)
    slow = list(generate(params, config, tokenizer, slow_rng, num_samples=40, **options))
    quick = list(
        generate(params, config, tokenizer, fast_rng, num_samples=40, extend=fast, **options)
    )
    assert slow == quick
    assert slow_rng.getstate() == fast_rng.getstate()


def outcome(call: Callable[[], list[float]]) -> Any:
    try:
        return [x.hex() for x in call()]
    except (ArithmeticError, ValueError) as error:
        return type(error)


def test_numbers_that_overflow_do_as_in_plain_floats() -> None:
    config, rng = CONFIGS[1], random.Random(5)
    outcomes = set()
    for scale in (1e3, 1e60, 1e100, 1e154, 1e200, 1e300):
        for seed in range(4):
            flat = weights_of(config, scale, seed)
            fast = compiled(np.array(flat), config)
            slow = plain(unflatten(flat, parameter_shapes(config)), config)
            for position in range(config.block_size):
                token = rng.randrange(config.vocab_size)
                theirs = outcome(lambda f=fast, t=token, p=position: f(t, p))  # type: ignore[misc]
                ours = outcome(lambda f=slow, t=token, p=position: f(t, p))  # type: ignore[misc]
                assert theirs == ours
                outcomes.add(str(ours)[:8])
                if isinstance(ours, type):
                    break
    assert len(outcomes) > 2, "some overflow and some do not"


def test_the_result_must_be_made_of_the_logits() -> None:
    from microgpt.engine.fuse import fuse
    from microgpt.engine.program import compile_tape
    from microgpt.engine.tracer import record

    losses = compile_tape(fuse(record(CONFIGS[2])))
    with pytest.raises(ValueError, match="not the maximum of its logits"):
        forward._logit_slots(losses)


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SAMPLE, *arguments],
        capture_output=True, text=True, check=False, timeout=100, **options,
    )  # fmt: skip


def test_both_engines_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "c.msgpack"
    checkpoint_format.save(path, make_tiny())
    options = ("--unique", "--temperature", "1.5", "--num-samples", "50", "--explain")
    plainly, tape = (run(str(path), "--engine", engine, *options) for engine in ("plain", "tape"))
    assert (plainly.returncode, tape.returncode) == (0, 0), tape.stderr
    assert plainly.stdout == tape.stdout
    greedy = ("--temperature", "0", "--num-samples", "2", "--explain")
    plainly, tape = (run(str(path), "--engine", engine, *greedy) for engine in ("plain", "tape"))
    assert (plainly.returncode, tape.returncode) == (0, 0), tape.stderr
    assert plainly.stdout == tape.stdout
    texts = [line.partition(": ")[2] for line in tape.stdout.splitlines() if ": " in line]
    assert len(texts) == 2
    assert texts[0] == texts[1] == microgpt.sample(path, 1, temperature=0)[0]
    assert 0 < tape.stdout.count("%") == tape.stdout.count("100.00%     1 ")


@pytest.mark.parametrize("package", ["llvmlite", "numpy"])
def test_without_a_compiler(tmp_path: Path, package: str) -> None:
    path = tmp_path / "c.msgpack"
    checkpoint_format.save(path, make_tiny())
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "import sample; from lab.sampler import speed; speed.WORTH_LOADING = 0\n"
        "speed._is_installed = lambda: True\n"
        "sys.exit(sample.main(sys.argv[1:]))"
    )
    codes, outputs = [], []
    for engine in ("tape", "auto", "plain"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), "--engine", engine],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        codes.append(done.returncode)
        outputs.append(done.stdout)
        if engine == "tape":
            assert done.stderr == f"error: the tape engine needs {package}: pip install {package}\n"
    assert codes == [1, 0, 0]
    assert outputs[1] == outputs[2]


def test_who_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from lab.sampler import speed

    made = make_tiny()
    params = made.state_dict()

    def who(engine: str, count: int) -> str:
        return speed.choose(engine, made, params, count)[1]

    enough = speed.WORTH_LOADING // made.num_params + 1
    plenty = speed.WORTH_COMPILING // made.num_params + 1
    for cold, expected in ((False, "tape"), (True, "plain")):
        monkeypatch.setattr(forward, "must_compile", lambda cold=cold: cold)
        assert who("auto", 20) == "plain"
        assert who("auto", enough) == expected
        assert who("auto", plenty) == "tape"
        assert who("plain", plenty) == "plain"
        assert who("tape", 1) == "tape"
    monkeypatch.setattr(speed, "_is_installed", lambda: False)
    assert who("auto", plenty) == "plain"

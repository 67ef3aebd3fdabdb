"""``bench.py engine``: microseconds per document, of both engines, of peers, and at best."""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from lab.bench.peers.install import PEERS, PeerError, run_peer
from lab.bench.progress import Numbers, Steps
from microgpt.data.dataset import load_dataset
from microgpt.data.documents import DatasetError
from microgpt.data.packed import PackedDocuments
from microgpt.engine import make_engine
from microgpt.engine.fuse import fuse
from microgpt.engine.tape import Op
from microgpt.engine.tracer import record
from microgpt.model import GPTConfig, num_positions, parameter_shapes
from microgpt.numerics.jit import entry
from microgpt.numerics.simd import load, pointer, splat, store
from microgpt.parameters import init_parameters
from microgpt.support import cli
from microgpt.tokenizer import Tokenizer

EIGHT = (0,) * 8
#: Seconds that one repeat takes at least, so that the clock's grain does not count.
REPEAT = 0.02


@dataclass(frozen=True)
class Timing:
    """Microseconds per document over the repeats, and the mean loss of the batch in nats."""

    engine: str
    width: int
    batch: int
    median: float
    fastest: float
    slowest: float
    loss: float


@click.command()
@click.option(
    "--batches", type=Numbers(), default="1,8,32,256", show_default=True, help="Batch sizes."
)
@click.option(
    "--widths", type=Numbers(), default="16,32,64", show_default=True, help="Embedding widths."
)
@click.option("--repeats", type=cli.Whole(1), default=15, show_default=True)
@click.option(
    "--scalar/--no-scalar", default=True, show_default=True, help="The scalar engine too."
)
@click.option("--peer", "peers", type=click.Choice(sorted(PEERS)), multiple=True)
@click.option("--data", default="names", show_default=True, help="Documents, as for training.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def engine(
    batches: tuple[int, ...],
    widths: tuple[int, ...],
    repeats: int,
    scalar: bool,
    peers: Sequence[str],
    data: str,
    json_file: Path | None,
) -> None:
    """Time loss and gradient of a batch. Peers are installed into a folder of their own."""
    try:
        documents = list(load_dataset(data).documents)
    except DatasetError as error:
        raise click.ClickException(str(error)) from error
    tokenizer = Tokenizer.from_documents(documents)
    rng = random.Random(42)
    rng.shuffle(documents)
    tokens = [tokenizer.encode(document) for document in documents[: max(batches)]]
    rate = multiply_adds_per_second()
    timings, limits = [], {}
    steps = Steps("engine", len(widths) * (len(batches) + scalar + 2 * len(peers) + 1))
    for width in widths:
        config = shaped(tokenizer.vocab_size, width)
        params = init_parameters(parameter_shapes(config), random.Random(42))
        for size in batches:
            with steps.next(f"tape, width {width}, batch {size}"):
                timings.append(time_tape(config, params, tokens[:size], repeats))
        if scalar:
            with steps.next(f"scalar, width {width}"):
                timings.append(time_scalar(config, params, tokens[:1]))
        for peer in peers:
            for precision in ("float64", "float32"):
                with steps.next(f"{peer} {precision}, width {width}"):
                    parts = [tokens[:size] for size in batches]
                    timings += time_peer(peer, precision, config, params, parts, repeats)
        with steps.next(f"arithmetic alone, width {width}"):
            limits[width] = 1e6 * multiply_adds(config, tokens) / len(tokens) / rate
    check_losses(timings)
    show(timings, limits, rate)
    if json_file is not None:
        write(json_file, timings, limits, rate)


def shaped(vocab_size: int, width: int) -> GPTConfig:
    """The model of a width. Raises ClickException if it has none."""
    try:
        return GPTConfig(vocab_size, n_embd=width)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def time_tape(
    config: GPTConfig, params: list[float], tokens: list[list[int]], repeats: int
) -> Timing:
    """The tape engine, compiled and warm."""
    tape, vector = make_engine("tape", config), np.array(params)
    packed = PackedDocuments.pack(tokens)  # as they come to a worker
    losses = tape.gradients(vector, packed).losses
    seconds = measured(lambda: tape.gradients(vector, packed), repeats)
    return summary("tape", config, len(tokens), seconds, sum(losses) / len(losses))


def time_scalar(config: GPTConfig, params: list[float], tokens: list[list[int]]) -> Timing:
    """The scalar engine: document by document, so any batch costs the same per document."""
    scalar, vector = make_engine("scalar", config), np.array(params)
    seconds, losses = [], [0.0]
    for _ in range(3):
        begin = time.perf_counter()
        losses = list(scalar.gradients(vector, tokens).losses)
        seconds.append(time.perf_counter() - begin)
    return summary("scalar", config, len(tokens), seconds, sum(losses) / len(losses))


def time_peer(
    peer: str,
    precision: str,
    config: GPTConfig,
    params: list[float],
    batches: list[list[list[int]]],
    repeats: int,
) -> list[Timing]:
    """A peer in a process of its own."""
    task = {
        "config": config.to_dict(),
        "shapes": parameter_shapes(config),
        "params": params,
        "batches": batches,
        "precision": precision,
        "repeats": repeats,
    }
    try:
        answers = run_peer(peer, task)
    except PeerError as error:
        raise click.ClickException(str(error)) from error
    return [
        summary(f"{peer} {precision}", config, len(batch), answer["seconds"], answer["loss"])
        for batch, answer in zip(batches, answers, strict=True)
    ]


def measured(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of one call, ``repeats`` times the mean over enough calls."""
    begin = time.perf_counter()
    work()
    calls = max(1, int(REPEAT / (time.perf_counter() - begin)))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        seconds.append((time.perf_counter() - begin) / calls)
    return seconds


def summary(name: str, config: GPTConfig, batch: int, seconds: list[float], loss: float) -> Timing:
    """Seconds of whole batches as microseconds per document."""
    each = [1e6 * second / batch for second in seconds]
    return Timing(name, config.n_embd, batch, statistics.median(each), min(each), max(each), loss)


def check_losses(timings: list[Timing]) -> None:
    """Everyone who computed the same batch must have found the same loss, to four decimals."""
    found: dict[tuple[int, int], Timing] = {}
    for timing in timings:
        first = found.setdefault((timing.width, timing.batch), timing)
        if abs(first.loss - timing.loss) > 5e-5:
            raise click.ClickException(
                f"{timing.engine} finds a loss of {timing.loss}, {first.engine} of {first.loss}"
            )


def multiply_adds(config: GPTConfig, tokens: list[list[int]]) -> int:
    """Products with their additions in forward and backward of these documents."""
    tape = fuse(record(config))
    per_node = np.where(tape.op == Op.ROW, tape.num_args, 0)
    per_node = np.where(tape.op == Op.DOT, tape.num_args // 2, per_node)
    until = np.cumsum(per_node)[list(tape.losses)]
    return 3 * sum(int(until[num_positions(config, document) - 1]) for document in tokens)


@entry
def _spin(out: Any, count: int) -> None:
    """``8 * 8 * count`` multiplications and additions in registers, eight independent chains."""
    target = pointer(out)
    x = load(target, 0, EIGHT)
    a, b, c, d, e, f, g, h = x, x, x, x, x, x, x, x
    y = splat(0.75, EIGHT)
    for _ in range(count):
        a, b, c, d = a * y + x, b * y + x, c * y + x, d * y + x
        e, f, g, h = e * y + x, f * y + x, g * y + x, h * y + x
    store(target, 0, a + b + c + d + (e + f + g + h))


def multiply_adds_per_second() -> float:
    """What this core can do at best: binary64, multiplication and addition rounded separately."""
    out, count = np.full(8, 0.5), 100_000
    _spin(out, 1)
    return 64 * count / min(measured(lambda: _spin(np.full(8, 0.5), count), 30))


def show(timings: list[Timing], limits: dict[int, float], rate: float) -> None:
    """Print the table."""
    table = Table("engine", "width", "batch", "us/document", "min", "max", "loss")
    for timing in timings:
        figures = (timing.median, timing.fastest, timing.slowest)
        table.add_row(
            timing.engine,
            str(timing.width),
            str(timing.batch),
            *(f"{figure:,.1f}" for figure in figures),
            f"{timing.loss:.4f}",
        )
    for width, limit in limits.items():
        table.add_row("arithmetic alone", str(width), "any", f"{limit:,.1f}", "", "", "")
    console = Console()
    console.print(table)
    console.print(f"{rate / 1e9:.1f} thousand million multiply-adds a second (binary64, one core)")


def write(path: Path, timings: list[Timing], limits: dict[int, float], rate: float) -> None:
    """All numbers as JSON."""
    record_ = {
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "multiply_adds_per_second": rate,
        "limit_us_per_document": limits,
        "timings": [asdict(timing) for timing in timings],
    }
    path.write_text(json.dumps(record_, indent=2) + "\n")

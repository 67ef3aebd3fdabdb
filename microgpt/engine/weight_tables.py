"""Which products add up to each parameter's gradient, as tables for the kernel that adds them.

The gradient of a parameter in one document is ``0.0 + c0*x0 + c1*x1 + ...`` over its uses, the
latest first. In a product ``w * x``, ``c`` is the gradient of the row's result and ``x`` the other
factor; where a parameter is only read, ``c`` is one and ``x`` the gradient of what was read.
Parameters side by side with the same ``c`` make a run; runs with the same ``x`` make a block.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int32]


class ParameterUse(NamedTuple):
    """One use of the parameters ``start, start + 1, ...`` (as many as ``x`` has entries).

    ``ids``: the consuming nodes, or the one that consumes all; ``factor``: where ``c`` stands in
    memory, a gradient if ``factor_gradient``; ``x``: where the other factors stand; ``token``:
    (which token of the document, its value) if the use takes place for that value only.
    """

    start: int
    ids: tuple[int, ...]
    position: int
    factor: int
    factor_gradient: bool
    x: tuple[int, ...]
    token: tuple[int, int] | None = None

    def split(self) -> list[ParameterUse]:
        """One use per parameter."""
        ids = self.ids if len(self.ids) > 1 else self.ids * len(self.x)
        return [
            self._replace(start=self.start + k, ids=(ids[k],), x=(self.x[k],))
            for k in range(len(self.x))
        ]


@dataclass(frozen=True)
class WeightTables:
    """What to keep of a document, and how to multiply it.

    ``pack``: places in memory whose numbers are kept per document, in lists padded with place 0.
    ``pack_first``: (positions + 1,) where each position's lists begin.

    Blocks of ``block`` rows come first (``num_wide`` of them), then single rows. ``rows``: (blocks,
    block) first parameter of each row, -1 for none. ``shape``: (blocks, 3) columns, first use,
    number of uses. ``skip``: (blocks, positions + 1) how many uses a document of so many positions
    lacks. ``uses``: (uses, 4) where ``x`` and ``c`` stand in the packed lists; token, value or -1.
    """

    pack: Ints
    pack_first: Ints
    rows: Ints
    shape: Ints
    skip: Ints
    uses: Ints
    num_wide: int


Run: TypeAlias = list[ParameterUse]


def weight_tables(
    uses: list[ParameterUse], num_params: int, num_positions: int, block: int
) -> WeightTables:
    """Tables for these uses. Parameters without any keep a gradient of zero."""
    wide: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    single: list[Run] = []
    for run in _runs(uses):
        if all(use.token is None and use.factor_gradient for use in run):
            wide[tuple((use.position, use.x) for use in run)].append(run)
        else:
            single.append(run)
    blocks = [runs[i : i + block] for runs in wide.values() for i in range(0, len(runs), block)]
    packer = _Packer(num_positions, block)
    blocks.sort(key=lambda rows: rows[0][0].start)
    tables = [packer.block(rows) for rows in blocks + [[run] for run in single]]
    pack, pack_first, offset = packer.finish()
    entries = [
        (offset[x], offset[c], token, value) for _, _, u in tables for x, c, token, value in u
    ]
    counts = [len(u) for _, _, u in tables]
    firsts = np.concatenate([[0], np.cumsum(counts)])
    return WeightTables(
        pack,
        pack_first,
        np.array([rows for rows, _, _ in tables], np.int32).reshape(-1, block),
        np.array(
            [(columns, firsts[i], counts[i]) for i, (_, columns, _) in enumerate(tables)], np.int32
        ).reshape(-1, 3),
        np.array(
            [
                [sum(use.position >= n for use in rows[0]) for n in range(num_positions + 1)]
                for rows in blocks + [[run] for run in single]
            ],
            np.int32,
        ).reshape(-1, num_positions + 1),
        np.array(entries, np.int32).reshape(-1, 4),
        len(blocks),
    )


def _runs(uses: list[ParameterUse]) -> list[Run]:
    """The uses of each run of parameters, the latest first; no parameter is in two runs."""
    by_run: dict[tuple[int, int], Run] = defaultdict(list)
    for use in uses:
        by_run[use.start, len(use.x)].append(use)
    runs, entangled = [], []
    for cluster in _overlapping(sorted(by_run)):
        for key in cluster:
            run = sorted(by_run[key], key=lambda use: use.ids[0], reverse=True)
            apart = all(min(a.ids) > max(b.ids) for a, b in pairwise(run))
            if len(cluster) == 1 and (apart or key[1] == 1):
                runs.append(run)
            else:
                entangled += run
    if entangled:
        runs += _runs([one for use in entangled for one in use.split()])
    return runs


def _overlapping(keys: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    clusters: list[list[tuple[int, int]]] = []
    end = -1
    for start, length in keys:
        if start < end:
            clusters[-1].append((start, length))
        else:
            clusters.append([(start, length)])
        end = max(end, start + length)
    return clusters


Key: TypeAlias = tuple[int, tuple[int, ...]]


class _Packer:
    """Collects the lists to pack; equal lists of one position are packed once."""

    def __init__(self, num_positions: int, block: int) -> None:
        self.lists: list[dict[tuple[int, ...], None]] = [{} for _ in range(num_positions)]
        self.width = block

    def block(self, runs: list[Run]) -> tuple[list[int], int, list[tuple[Key, Key, int, int]]]:
        """First parameters of the rows, number of columns, and the uses of one block."""
        starts = [run[0].start for run in runs]
        starts += [-1] * (self.width - len(starts))
        entries = []
        for same in zip(*runs, strict=True):
            some = same[0]
            x = self._key(some.position, some.x)
            factors = self._key(some.position, tuple(use.factor for use in same))
            token, value = some.token or (-1, -1)
            entries.append((x, factors, token, value))
        return starts, len(runs[0][0].x), entries

    def _key(self, position: int, slots: tuple[int, ...]) -> Key:
        self.lists[position][slots] = None
        return position, slots

    def finish(self) -> tuple[Ints, Ints, dict[Key, int]]:
        """All packed places, where positions begin, and where each list stands."""
        pack: list[int] = []
        first = [0]
        offset: dict[Key, int] = {}
        for position, lists in enumerate(self.lists):
            for slots in lists:
                offset[position, slots] = len(pack)
                pack += [*slots, *[0] * (-len(slots) % self.width)]
            first.append(len(pack))
        return np.array(pack, np.int32), np.array(first, np.int32), offset

"""The part of the report that shows norms of updates, and what strategies say of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from coordinator.core.events import TensorNorms
from lab.report import chart
from lab.report.chart import Chart, Curve
from lab.report.html import folded, key, table, text
from lab.report.reading import RunRecord
from lab.report.updates import OTHERS, Series, Updates
from microgpt.support.cli import printable

#: Of the numbers that our own strategies tell: what they are of.
MEANINGS = {
    "clock_spread": "updates between the first replica and the last",
    "consensus_distance": "of the replicas from their mean, or from the centre",
    "drift": "of the weights since they were given out",
    "gradient_square": "|G|^2, without the noise",
    "gradient_variance": "tr(Sigma) of a document's gradient",
    "noise_scale": "documents, tr(Sigma) / |G|^2",
    "gradient_spread": "of the replicas' gradients from their mean",
    "residual_norm": "of what compression has left out",
    "step_norm": "of the weights in one update",
}


def curves_in_figures(charts: Iterable[Chart]) -> Iterator[str]:
    """Each chart that shows something, with its numbers behind it; nothing if none does."""
    drawn = [(each, svg) for each in charts if (svg := chart.draw(each))]
    if drawn:
        yield '<div class="charts">'
        for each, svg in drawn:
            what = f'{text(each.title)} <span class="weak">({text(each.y)})</span>'
            yield f"<figure><figcaption>{what}</figcaption>{svg}"
            yield f"{folded('Numbers', chart.table(each))}</figure>"
        yield "</div>"


def update_section(runs: Sequence[RunRecord], updates: Sequence[Updates]) -> Iterator[str]:
    """Nothing for runs that have recorded nothing of it."""
    told = [*zip(runs, updates, strict=True)]
    figures = [*curves_in_figures(_charts(told))]
    if not figures and not any(each.counts for each in updates):
        return
    yield "<h2>Updates, and what strategies say of them</h2>"
    yield (
        '<p class="weak">Looked at about once a second while the run went on. Norms are Euclidean; '
        "the gradient is the vector along which the optimizer has gone.</p>"
    )
    yield from figures
    for at, (run, each) in enumerate(told):
        rows = [[name, _in_words(counts)] for name, counts in sorted(each.counts.items())]
        if rows:
            name = f"<h3>{key(at)}{text(run.name)}</h3>"
            yield f"{name}{table(['', 'how often each value was met'], rows, 'text')}"
        if each.last is not None:
            name = f"{run.name}: norms of tensors at step {each.last.version:,}"
            yield folded(name, _norms(each.last))


def _charts(told: Sequence[tuple[RunRecord, Updates]]) -> Iterator[Chart]:
    def curves(series: Sequence[Series | None]) -> list[Curve]:
        return [
            Curve(printable(run.name), at, each.points)
            for at, ((run, _), each) in enumerate(zip(told, series, strict=True))
            if each is not None and each.points
        ]

    updates = [each for _, each in told]
    yield Chart("Gradient by step", "step", "norm", curves([u.gradient for u in updates]), True)
    yield Chart("Update by step", "step", "norm", curves([u.update for u in updates]), True)
    for name in sorted({name for each in updates for name in each.numbers}):
        title = printable(name).replace("_", " ").capitalize()
        what = MEANINGS.get(name, "as the strategy says")
        yield Chart(title, "step", what, curves([u.numbers.get(name) for u in updates]), True)


def _in_words(counts: Counter[str]) -> str:
    labels = sorted(counts, key=lambda label: (label == OTHERS, len(label), label))
    return ", ".join(f"{label}: {counts[label]:,}" for label in labels) or "never"


def _norms(last: TensorNorms) -> str:
    gradient = last.gradient or [None] * len(last.tensors)
    rows = [
        [name, "-" if g is None else f"{g:.4g}", f"{u:.4g}"]
        for name, g, u in zip(last.tensors, gradient, last.update, strict=False)
    ]
    return table(["tensor", "gradient", "update"], rows)

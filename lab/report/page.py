"""The report: one HTML file that needs nothing else, no network and no script.

Whatever a run says about itself is a stranger's text and escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from lab.report import chart, drawing
from lab.report.chart import Chart, Curve
from lab.report.compare import losses_at, outcome_rows, partings, records, setting_rows
from lab.report.html import POLICY, STYLE, folded, key, scroll, table, text
from lab.report.reached import LOSSES
from lab.report.runs import Listed, number
from lab.report.samples import Samples
from lab.report.timeline import Timeline, summaries, told_at
from lab.report.update_section import curves_in_figures, update_section
from lab.report.updates import Updates
from microgpt.support.cli import printable


def page(
    found: Sequence[Listed],
    timelines: Sequence[Timeline],
    samples: Sequence[Samples],
    updates: Sequence[Updates],
    losses: Sequence[float] = LOSSES,
) -> str:
    """The whole file. ``losses``: which are to be reached.

    The other lists belong to the runs of ``found`` that can be read, in their order.
    """
    names = ", ".join(text(run.name) for run in records(found))
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>Report: {names}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>Report: {names}</h1>",
        '<p class="weak">microGPT, trained data-parallel. Losses are in nats per token.</p>',
        '<div class="cards">',
        *(_card(at, listed) for at, listed in enumerate(found)),
        "</div>",
        *_curves(found),
        *_losses(found),
        *update_section(records(found), updates),
        *_timelines(found, timelines),
        *_happened(found, timelines),
        *_settings(found, losses),
        *_samples(found, samples),
        *_states(found),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _card(at: int, listed: Listed) -> str:
    run = listed.run
    if run is None:
        return ""
    steps = run.steps
    losses = [f"loss {steps.losses[-1]:.4f}"] if steps.losses else []
    if steps.validations:
        losses.append(f"validation {steps.validations[-1][1]:.4f}")
    losses.append(f"{number(steps.documents_per_second, ',.0f')} documents/s")
    conditions = "".join(f"<br><code>{text(flag)}</code>" for flag in run.conditions)
    reason = f": {text(run.ending.reason)}" if run.ending.reason else ""
    return (
        f'<section class="card"><h2>{key(at)}{text(run.name)}</h2>'
        f"<p>{text(run.strategy)} ({text(run.promise)})<br>"
        f"{steps.last:,} of {run.total:,} steps; {run.ending.how}{reason}<br>"
        f"{', '.join(losses)}{conditions}</p></section>"
    )


# --- curves --------------------------------------------------------------------------------------


MEANS = 40  # so many windows of the running mean are as long as the longest run


def charts(found: Sequence[Listed]) -> list[Chart]:
    """The curves of all runs: loss by step, second, bytes, document; held-out loss by step."""
    by_step, by_second, by_bytes, by_document, held_out = (list[Curve]() for _ in range(5))
    window = max(1, *(len(run.steps.numbers) // MEANS for run in records(found)), 1)
    for at, run in enumerate(records(found)):
        steps = run.steps
        moved = (a + b for a, b in zip(steps.sent, steps.received, strict=True))
        megabytes = [so_far / 1e6 for so_far in accumulate(moved)]
        seconds, documents = ([*accumulate(each)] for each in (steps.seconds, steps.documents))
        name, means = printable(run.name), chart.running_mean(steps.losses, window)
        for curves, xs in (
            (by_step, steps.numbers),
            (by_second, seconds),
            (by_bytes, megabytes),
            (by_document, documents),
        ):
            if window > 1:
                points = [*zip(xs, steps.losses, strict=True)]
                curves.append(Curve(name, at, points, faint=True))
            curves.append(Curve(name, at, [*zip(xs, means, strict=True)]))
        held_out.append(Curve(name, at, steps.validations))
    of_batches = f"mean of {window} steps" if window > 1 else "each step"
    return [
        Chart("Loss by step", "step", of_batches, by_step),
        Chart("Validation loss by step", "step", "held-out documents", held_out),
        Chart("Loss by time", "seconds of work", of_batches, by_second),
        Chart("Loss by traffic", "megabytes sent and received", of_batches, by_bytes),
        Chart("Loss by documents", "documents", of_batches, by_document),
    ]


def _curves(found: Sequence[Listed]) -> Iterator[str]:
    drawn = [*curves_in_figures(charts(found))]
    if drawn:
        yield "<h2>Curves</h2>"
        yield from drawn


def _losses(found: Sequence[Listed]) -> Iterator[str]:
    told = losses_at(records(found))
    if told:
        names = [run.name for run in records(found)]
        head, kinds = ["step", *names], ["loss"]
        if any(loss is not None for row in told for loss in row["validation_loss"]):
            kinds.append("validation_loss")
            head += [f"{name}, validation" for name in names]
        rows = [
            [f"{row['step']:,}", *(number(x, ".4f") for kind in kinds for x in row[kind])]
            for row in told
        ]
        yield f"<h2>Losses at equal steps</h2>{table(head, rows)}"


# --- timelines -----------------------------------------------------------------------------------


def _timelines(found: Sequence[Listed], timelines: Sequence[Timeline]) -> Iterator[str]:
    yield "<h2>Timelines</h2>"
    yield (
        '<p class="weak">A bar is a shard: pale while the worker had it, full while its engine was '
        "at work, as far as its answer tells. Colours tell rounds apart; grey is an evaluation; a "
        "dotted frame is a backup, a trial, or an answer that was not used.</p>"
    )
    for at, (run, timeline) in enumerate(zip(records(found), timelines, strict=True)):
        yield f"<h3>{key(at)}{text(run.name)}</h3>"
        if timeline.problem:
            yield f"<p>{text(timeline.problem)}</p>"
        svg = drawing.draw(timeline)
        if not svg:
            yield '<p class="weak">No shards are recorded: train with <code>--events full</code>.'
            yield "</p>"
            continue
        yield f'<p class="weak">{drawing.in_words(timeline)}</p>'
        yield scroll(svg, f"Timeline of {run.name}")
        yield _workers(timeline)


def _workers(timeline: Timeline) -> str:
    head = ["worker", "engine", "documents", "documents/s", "engine at work", "had a shard"]
    length = max(timeline.last - timeline.first, 1e-9)
    rows = [
        [
            drawing.name_of(timeline, each.lane),
            timeline.names.get(each.lane, ("", "-"))[1],
            f"{each.documents:,}",
            f"{each.documents / length:,.0f}",
            f"{each.computing:.0%}",
            f"{each.busy:.0%}",
        ]
        for each in summaries(timeline)
    ]
    return table(head, rows)


def _happened(found: Sequence[Listed], timelines: Sequence[Timeline]) -> Iterator[str]:
    yield "<h2>What happened</h2>"
    for at, (run, timeline) in enumerate(zip(records(found), timelines, strict=True)):
        rows = [[f"{told_at(timeline, mark.time):.3f} s", mark.text] for mark in timeline.marks]
        if timeline.more:
            rows.append(["", f"and {timeline.more:,} more"])
        name = f"{key(at)}{text(run.name)}: {len(timeline.marks) + timeline.more:,} events"
        yield f"<details><summary>{name}</summary>{table(['after', 'what'], rows, 'text')}"
        yield "</details>"


# --- the rest ------------------------------------------------------------------------------------


def _settings(found: Sequence[Listed], losses: Sequence[float]) -> Iterator[str]:
    runs = records(found)
    head = ["", *(run.name for run in runs)]
    rows = setting_rows(runs)
    other = [[f"≠ {name}", *values] for differs, name, values in rows if differs]
    equal = [[name, *values] for differs, name, values in rows if not differs]
    outcome = [[name, *values] for name, values in outcome_rows(found, losses)]
    yield "<h2>Settings and outcome</h2>"
    yield table(head, [*other, *outcome], marked=len(other))
    yield folded(f"{len(equal)} settings that are equal", table(head, equal))


def _samples(found: Sequence[Listed], samples: Sequence[Samples]) -> Iterator[str]:
    yield '<h2>Samples</h2><div class="cards">'
    for at, (run, each) in enumerate(zip(records(found), samples, strict=True)):
        yield f'<section class="card"><h3>{key(at)}{text(run.name)}</h3>'
        if each.remark:
            yield f'<p class="weak">{text(each.remark)}</p>'
        for step, invented in each.invented:
            yield f"<p><b>after step {step:,}</b>: {', '.join(map(text, invented))}</p>"
        yield "</section>"
    yield "</div>"


def _states(found: Sequence[Listed]) -> Iterator[str]:
    yield "<h2>States</h2>"
    rows = []
    for listed, run in zip(found, records(found), strict=True):
        newest = listed.newest
        state = [f"{newest.step:,}", newest.sha256] if newest else ["-", "-"]
        rows.append([run.name, run.run, *state])
    yield table(["run", "id", "step", "state_sha256"], rows)
    for listed in found:
        for fault in listed.states.faults if listed.states else ():
            yield f"<p>{text(listed.path.name)}: passed over: {text(fault)}</p>"
    for told, listed in zip(partings(found), found[1:], strict=True):
        yield f"<p>{text(found[0].path.name)} and {text(listed.path.name)}: {told['text']}.</p>"

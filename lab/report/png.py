"""A chart as a PNG file, drawn by matplotlib, which is an extra: ``pip install '.[report]'``."""

from __future__ import annotations

import io

from lab.report.chart import Chart, thinned
from lab.report.palette import HUES, hue
from microgpt.support.cli import UserError

INCHES, DOTS = (8.0, 4.5), 150  # and dots an inch: 1200 x 675 pixels


def draw_png(chart: Chart) -> bytes:
    """The file. Raises UserError where matplotlib is missing."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        text = f"--png needs matplotlib: pip install matplotlib, or take --svg ({error})"
        raise UserError(text) from error
    # A name with two dollars would be taken for a formula.
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained")
        axes = figure.subplots()
        lines, names = [], []
        for curve in chart.curves:
            xs, ys = zip(*thinned(curve.points), strict=True) if curve.points else ((), ())
            look = {"alpha": 0.3, "linewidth": 0.8, "zorder": 1} if curve.faint else {}
            (line,) = axes.plot(xs, ys, color=HUES[hue(curve.number)][0], **look)
            if not curve.faint:
                lines.append(line)
                names.append(f" {curve.name}")  # one that begins with _ would be left out
        axes.set(title=chart.title, xlabel=chart.x, ylabel=f"nats per token, {chart.y}")
        axes.grid(axis="y", alpha=0.4)
        axes.legend(lines, names, frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()

"""What the page draws, in a real browser, of real runs: against what their records say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microgpt.optim.reduction import Shard, sum_of_shards
from tests.lab.page.conftest import DESKTOP, PHONE, Console, Open, Serve
from tests.marks import soak
from tests.processes import PATIENCE, TINY, Lab

STEPS = 40
MS = PATIENCE * 1000
FLAGS = ("--workers", "2", "--engine", "scalar", "--events", "full", *TINY)
HELD = ("--validation-fraction", "0.3", "--eval-every", "10")
DASH = "\N{EN DASH}"
EVIL = "<img src=x onerror='document.title=1'>"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run that is over: two workers, evaluations, all events."""
    lab = Lab(tmp_path_factory.mktemp("drawn"))
    try:
        flags = ("--data", str(lab.data), "--steps", str(STEPS), *FLAGS, *HELD)
        assert lab.train(*flags, "--checkpoint-every", "20").wait() == 0
        yield lab.place / "runs/it"
    finally:
        lab.close()


def _lines(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def _shown(window: Any, phase: str = "finished") -> Any:
    """The window, as soon as it has heard of the run and drawn it."""
    window.locator(f"#phase[data-phase={phase}]").wait_for(timeout=MS)
    window.locator("#timeline canvas:not([data-spans='0'])[data-spans]").wait_for(timeout=MS)
    return window


def _table(window: Any, place: str) -> list[list[str]]:
    """The cells of the table behind a drawing."""
    details = window.locator(f"{place} details")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    rows = details.locator("tbody tr")
    rows.first.wait_for(timeout=MS)
    return [row.locator("td").all_inner_texts() for row in rows.all()]


@pytest.mark.soak
def test_losses_and_shards_are_drawn_while_the_run_goes_on(
    open_page: Open, serve: Serve, lab: Lab
) -> None:
    lab.slow_down(0.002)
    train = lab.train("--data", str(lab.data), "--steps", "60", *FLAGS, *HELD)
    lab.run_dir().reaches(2)
    window = _shown(open_page(serve(lab.place / "runs/it").url), "running")
    before = window.evaluate("page.store.steps.length")
    window.locator("#phase[data-phase=finished]").wait_for(timeout=MS)
    assert before < 60
    assert train.wait() == 0
    metrics = lab.run_dir().metrics
    window.locator("#tile-step", has_text="60 / 60").wait_for(timeout=MS)
    drawn = window.evaluate("[...page.charts.loss.sources[0].source.data.y]")
    assert drawn == [line["loss"] for line in metrics]
    held = [line["validation_loss"] for line in metrics if "validation_loss" in line]
    assert window.evaluate("[...page.charts.loss.sources[2].source.data.y]") == held
    assert _table(window, "#loss")[-1][3] == f"{held[-1]:.4f}"
    assert window.locator("#tile-validation").inner_text() == f"{held[-1]:.4f}"


def test_the_timeline_has_a_bar_for_each_shard(
    open_page: Open, serve: Serve, finished: Path
) -> None:
    window = _shown(open_page(serve(finished).url))
    window.get_by_role("button", name="The whole run").click()
    given = [line for line in _lines(finished, "events.jsonl") if line["kind"] == "assigned"]
    canvas = window.locator(f"#timeline canvas[data-spans='{len(given)}'][data-lanes='2']")
    canvas.wait_for(timeout=MS)
    rows = {row[0]: row[1:3] for row in _table(window, "#timeline")}
    for name in ("worker-1", "worker-2"):
        own = [line for line in given if line["name"] == name]
        assert rows[name] == [str(len(own)), str(sum(line["count"] for line in own))]
    # A bar has the colour of its round in the palette, where the timeline says that it is.
    _choose(window)
    colour, expected, x, y, number = window.evaluate(_PIXEL)
    assert colour == expected
    window.locator("#timeline canvas").click(position={"x": x, "y": y})
    window.get_by_role("dialog", name=f"Round {number}").locator("svg.tree").wait_for(timeout=MS)


def _choose(window: Any) -> None:
    """By keys, a shard of a training round."""
    window.locator("#timeline canvas").focus()
    window.keyboard.press("ArrowRight")
    while window.evaluate("page.timeline.selected.kind") == "evaluation":
        window.keyboard.press("ArrowLeft")


_PIXEL = """() => {
  const { timeline } = page;
  timeline.show(timeline.selected.computing - 1e-4, timeline.selected.end + 1e-4);
  const span = timeline.selected;
  timeline.selected = null;
  timeline.draw();
  const { width, height, gutter, begin, end, lanes } = timeline.frame;
  const ratio = devicePixelRatio;
  const x = gutter + ((span.computing + span.end) / 2 - begin) / (end - begin) * (width - gutter);
  const y = 24 + (height - 24) / 2 * (lanes.indexOf(span.lane) + 0.5);
  const [r, g, b] = timeline.canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data;
  const hex = (n) => n.toString(16).padStart(2, "0");
  return [`#${hex(r)}${hex(g)}${hex(b)}`, timeline.palette.hues[span.round % 6], x, y, span.round];
}"""


def test_enter_on_a_shard_shows_the_tree_of_its_round(
    open_page: Open, serve: Serve, finished: Path
) -> None:
    window = _shown(open_page(serve(finished).url))
    _choose(window)
    chosen = window.evaluate("page.timeline.selected")
    window.keyboard.press("Enter")
    dialog = window.get_by_role("dialog", name=re.compile("^Round "))
    dialog.locator("svg.tree").wait_for(timeout=MS)
    events = _lines(finished, "events.jsonl")
    told = [e for e in events if e["kind"] == "answered" and e["round"] == chosen["round"]]
    told.sort(key=lambda event: event["start"])
    rows = [row.locator("td").all_inner_texts() for row in dialog.locator("tbody tr").all()]
    assert [(row[1], row[3]) for row in rows] == [
        (e["name"], f"{e['start']}{DASH}{e['start'] + e['count'] - 1}") for e in told
    ]
    leaves = dialog.locator("svg.tree g[data-place]").all()
    assert [leaf.locator(".name").text_content() for leaf in leaves] == [e["name"] for e in told]
    shards = [(Shard(e["start"], e["count"]), str(at)) for at, e in enumerate(told, start=1)]
    tree = sum_of_shards(shards, lambda left, right: f"({left} + {right})")
    told_of = dialog.locator("svg.tree").get_attribute("aria-label")
    assert told_of == f"sum of 32 documents: {tree}"
    assert _grave(window) == []
    window.keyboard.press("Escape")
    dialog.wait_for(state="hidden", timeout=MS)


def test_keys_reach_everything(open_page: Open, serve: Serve, finished: Path) -> None:
    window = _shown(open_page(serve(finished).url))
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.className") == "skip"
    window.locator("#loss .plot").focus()
    window.keyboard.press("End")
    last = _lines(finished, "metrics.jsonl")[-1]
    assert f"of each step {last['loss']:.4f}" in window.locator("#loss .readout").inner_text()
    assert f"step {STEPS}" in window.locator("#loss .readout").inner_text()
    window.get_by_role("radio", name="second").check()
    window.keyboard.press("ArrowRight")  # to the bytes, which are drawn then
    window.locator("#loss .plot[aria-label*=Loss]").wait_for()
    total = sum(
        line["bytes_sent"] + line["bytes_received"] for line in _lines(finished, "metrics.jsonl")
    )
    assert window.evaluate("page.charts.common().at.at(-1) * page.charts.common().x.size") == total
    canvas = window.locator("#timeline canvas")
    canvas.focus()
    length = window.evaluate("page.timeline.length")
    window.keyboard.press("+")
    assert window.evaluate("page.timeline.length") == pytest.approx(length / 2)
    window.keyboard.press("Home")
    assert window.evaluate("page.timeline.window[0]") == window.evaluate("page.store.start")
    saved = window.get_by_role("button", name=re.compile("saved"))
    assert saved.get_attribute("aria-pressed") == "false"
    saved.press("Enter")
    assert saved.get_attribute("aria-pressed") == "true"
    window.locator("#theme").press("Enter")
    assert window.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize(
    ("viewport", "scheme"),
    [
        soak(DESKTOP, "light", id="light-desktop"),
        soak(PHONE, "light", id="light-phone"),
        soak(DESKTOP, "dark", id="dark-desktop"),
        pytest.param(PHONE, "dark", id="dark-phone"),
    ],
)
def test_no_serious_fault_for_people_who_see_or_move_differently(
    open_page: Open, serve: Serve, finished: Path, viewport: dict[str, int], scheme: str
) -> None:
    window = _shown(open_page(serve(finished).url, viewport=viewport, color_scheme=scheme))
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert window.evaluate(_SHIFT) < 0.1  # what moved while it came: at most a little is good
    assert _grave(window) == []


_SHIFT = """() => new Promise((tell) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) sum += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => tell(sum), 200);
})"""


def _grave(window: Any) -> list[Any]:
    """What axe finds to be serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
    found = axe().run(window).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    return [(fault["id"], [node["target"] for node in fault["nodes"]]) for fault in grave]


def test_names_and_samples_of_strangers_are_shown_as_text(
    open_page: Open, serve: Serve, finished: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "evil")
    text = (run / "events.jsonl").read_text().replace("worker-1", EVIL)
    (run / "events.jsonl").write_text(text)
    window = _shown(open_page(serve(run).url))
    assert EVIL in window.locator("#workers tbody th").all_inner_texts()
    assert any(EVIL in item for item in window.locator("#happened li").all_inner_texts())
    assert [row[0] for row in _table(window, "#timeline")].count(EVIL) == 1
    assert window.locator("img").count() == 0
    assert window.title() == "evil · microGPT"


@pytest.mark.soak
def test_a_record_without_shards_says_how_to_get_a_timeline(
    open_page: Open, serve: Serve, lab: Lab
) -> None:
    flags = ("--data", str(lab.data), "--steps", "6", "--workers", "1", "--engine", "scalar")
    assert lab.train(*flags, *TINY).wait() == 0
    window = open_page(serve(lab.place / "runs/it").url)
    window.locator("#phase[data-phase=finished]").wait_for(timeout=MS)
    expected = "Recorded with --events summary: no timeline. --events full records it."
    window.locator("#timeline .missing", has_text=expected).wait_for(timeout=MS)
    assert "--events rounds" in window.locator("#tensors .missing").inner_text()


@pytest.mark.soak
def test_a_lost_connection_is_told_and_comes_back(
    open_page: Open, serve: Serve, finished: Path, console: Console
) -> None:
    console.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE"]
    page = serve(finished)
    window = _shown(open_page(page.url))
    chip = window.locator("#connection")
    assert chip.inner_text() == "connected"  # a run that is over is not live
    os.kill(page.pid, signal.SIGTERM)
    window.locator("#connection[data-status=lost]").wait_for(timeout=MS)
    assert chip.inner_text() == "server has ended; what is shown stays"
    assert window.locator("#tile-step").inner_text() == f"{STEPS} / {STEPS}"
    serve(finished, "--port", str(page.address[1]))
    window.locator("#connection[data-status=open]").wait_for(timeout=MS)
    assert window.evaluate("page.store.steps.length") == STEPS

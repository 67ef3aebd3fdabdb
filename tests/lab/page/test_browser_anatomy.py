"""The second view in a real browser: the numbers that it shows, how one moves in it, for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microgpt.anatomy import Anatomy, dissect
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint
from microgpt.checkpoint.newest import step_path
from microgpt.parameters import from_bytes, to_bytes
from tests.lab.page.conftest import PHONE, Console, Open, Serve
from tests.marks import soak
from tests.tiny import make_tiny

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def url(serve: Serve, tmp_path: Path) -> str:
    """Of a run with checkpoints of steps 3 and 5, whose weights differ."""
    made = made_at(5)
    checkpoint_format.save(tmp_path / "checkpoint.msgpack", made)
    (tmp_path / "checkpoints").mkdir()
    for step in (3, 5):
        checkpoint_format.save(step_path(tmp_path, step), made_at(step))
    return f"{serve(tmp_path).url}anatomy"


def made_at(step: int) -> Checkpoint:
    made = make_tiny(n_layer=2)
    weights = to_bytes([weight * step / 5 for weight in from_bytes(made.weights)])
    return replace(
        made, step=step, losses=made.losses[:step], next_document=4 * step, weights=weights
    )


def anatomy(document: str, step: int = 5) -> Anatomy:
    made = made_at(step)
    return dissect(made.state_dict(), made.training.model, made.tokenizer, document)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def opened(open_page: Open, url: str, query: str, **settings: Any) -> Any:
    window = open_page(f"{url}?{query}", **settings)
    window.wait_for_selector("body[data-ready]")
    return window


def shows_position(window: Any, found: Anatomy, at: int, before: Sequence[str]) -> None:
    """All that is drawn of a position is what the model computes."""
    position, alphabet = found.positions[at], [*make_tiny().tokenizer.chars, "end"]
    titles = window.eval_on_selector_all("#next > div", "all => all.map(one => one.title)")
    assert titles == [
        f"{letter}: {percent(share)}"
        for letter, share in zip(alphabet, position.probabilities, strict=True)
    ]
    target = window.locator("#next > .target")
    assert target.get_attribute("data-token") == str(position.target)
    rows = window.locator("#attention tbody tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [
        [f"layer {layer}, head {head}", *map(percent, weights)]
        for layer, heads in enumerate(position.attention)
        for head, weights in enumerate(heads)
    ]
    heads = window.locator("#attention thead th").all_inner_texts()
    assert heads == ["start", *before]
    norms = window.locator("#hidden td.number").all_inner_texts()
    assert norms == [f"{norm:.3f}" for norm in position.norms]
    sentence = window.inner_text("#chosen")
    assert f"= {position.loss:.4f} nats" in sentence
    assert f"gives {percent(position.probability)} to " in sentence
    assert window.is_checked(f"#strip input[value='{at}']")


def test_each_position_shows_what_the_model_computes(open_page: Open, url: str) -> None:
    window = opened(open_page, url, "document=bob")
    found = anatomy("bob")
    assert f"mean loss is {found.loss:.4f} nats" in window.inner_text("#summary")
    labels = window.eval_on_selector_all("#strip input", "all => all.map(one => one.ariaLabel)")
    pairs = ["start, then b", "b, then o", "o, then b", "b, then end"]
    assert labels == [
        f"{pair}: loss {position.loss:.4f}"
        for pair, position in zip(pairs, found.positions, strict=True)
    ]
    shows_position(window, found, 0, [])
    window.locator("#strip label").nth(2).click()
    shows_position(window, found, 2, ["b", "o"])
    window.keyboard.press("ArrowRight")
    shows_position(window, found, 3, ["b", "o", "b"])
    assert window.url.endswith("?document=bob&position=3")
    assert found.gradients is not None
    rows = window.locator("#gradient tbody tr").all_inner_texts()
    assert [row.split("\t")[:4] for row in rows] == [
        [one.name, f"{one.rows} \u00d7 {one.columns}", f"{one.norm:.4f}", percent(one.share)]
        for one in found.gradients
    ]


def test_another_checkpoint_and_another_document(
    open_page: Open, url: str, console: Console
) -> None:
    console.expected.append("status of 400")
    window = opened(open_page, url, "document=bob&step=3&position=1")
    shows_position(window, anatomy("bob", 3), 1, ["b"])
    assert window.input_value("#checkpoint") == "3"
    window.select_option("#checkpoint", "5")
    expected = anatomy("bob")
    window.wait_for_selector("#summary:has-text('step 5')")
    shows_position(window, expected, 1, ["b"])
    window.fill("#document", "anna<b>")
    window.keyboard.press("Enter")
    window.wait_for_selector("#status.wrong")
    assert window.inner_text("#status").startswith("the model knows no '<', '>'; it knows")
    shows_position(window, expected, 1, ["b"])  # what was there stays
    window.fill("#document", "ida")
    window.get_by_role("button", name="Show").click()
    window.wait_for_selector("#summary:has-text('ida')")
    shows_position(window, anatomy("ida"), 0, [])
    assert window.inner_text("#status").strip() == ""


def test_a_sample_on_the_page_leads_to_its_anatomy(
    open_page: Open, url: str, tmp_path: Path
) -> None:
    made = made_at(5)
    record = {"run": made.run, "training": made.training.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(record))
    window = open_page(url.removesuffix("anatomy"))
    link = window.locator("#samples .sample:nth-child(2) a").first  # of step 5, after that of 3
    document = link.inner_text()
    link.click()
    window.wait_for_selector("body[data-ready]")
    assert window.input_value("#checkpoint") == "5"
    assert window.input_value("#document") == document
    shows_position(window, anatomy(document), 0, [])


@pytest.mark.soak
def test_without_a_document_it_shows_one_that_the_model_invents(open_page: Open, url: str) -> None:
    window = opened(open_page, url, "")
    document = window.input_value("#document")
    assert document
    shows_position(window, anatomy(document), 0, [])


@pytest.mark.parametrize("look", [soak({}), {"color_scheme": "dark", "viewport": PHONE}])
def test_it_is_for_everybody(open_page: Open, url: str, look: dict[str, Any]) -> None:
    """No fault that axe finds, nothing wider than a phone, tables behind what is drawn."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    window = opened(open_page, url, "document=bob&position=1", **look)
    for table in ("Probabilities as a table", "All positions as a table"):
        window.get_by_text(table).click()
    window.wait_for_selector("#positions td")
    found = axe.Axe().run(window).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["target"]) for fault in found] == []
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
    first = window.locator("#next-table tbody tr").first.inner_text().split("\t")
    best = max(anatomy("bob").positions[1].probabilities)
    assert (first[0], first[2]) == ("1", percent(best))
    rows = window.locator("#positions tbody tr").all_inner_texts()
    ranks = [int(row.split("\t")[-1]) for row in rows]
    assert ranks == [position.rank for position in anatomy("bob").positions]

"""``/api/anatomy``: what the command prints, for a run's checkpoints, and what it refuses."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from lab.anatomy import plain
from lab.page.anatomy import MOST_LETTERS, MOST_WAITING
from microgpt.anatomy import dissect
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.newest import step_path
from tests.lab.page.serving import Served, served
from tests.processes import PATIENCE
from tests.tiny import make_tiny


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Of a run whose newest checkpoint, that of step 5, has a file of its own, too."""
    place = tmp_path_factory.mktemp("run")
    (place / "checkpoints").mkdir()
    for path in (place / "checkpoint.msgpack", step_path(place, 5)):
        checkpoint_format.save(path, make_tiny())
    with served(place) as page:
        yield page


def ask(page: Served, path: str, **query: object) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*page.address, timeout=PATIENCE)
    connection.request("GET", f"{path}?{urlencode(query)}")
    answer = connection.getresponse()
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def expected(document: str) -> Any:
    made = make_tiny()
    found = dissect(made.state_dict(), made.training.model, made.tokenizer, document)
    return json.loads(json.dumps(plain(made, document, found)))


def test_it_is_what_the_model_computes(page: Served) -> None:
    for query in ({"checkpoint": 5}, {"checkpoint": ""}, {}):
        assert ask(page, "/api/anatomy", document="bob", **query) == (200, expected("bob"))
    assert ask(page, "/api/anatomy", document="") == (200, expected(""))
    assert ask(page, "/api/checkpoints") == (200, {"checkpoints": [5]})


def test_without_a_document_the_model_invents_one(page: Served) -> None:
    status, body = ask(page, "/api/anatomy")
    assert (status, body) == (200, expected(body["document"]))


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        (
            {"document": "b0b"}, 400,
            "the model knows no '0'; it knows 'abcdefghijklmnoprstuvwyz'",
        ),
        ({"document": "a" * (MOST_LETTERS + 1)}, 400, "the document is longer than 128 letters"),
        ({"document": "a\0"}, 400, "the document has a letter that no model knows"),
        (
            {"document": "--help"}, 400,
            "the model knows no '-'; it knows 'abcdefghijklmnoprstuvwyz'",
        ),
        ({"checkpoint": "newest"}, 400, "checkpoint: the number of a step is wanted"),
        ({"checkpoint": "-1"}, 400, "checkpoint: the number of a step is wanted"),
        ({"checkpoint": "0" * 5000}, 400, "checkpoint: the number of a step is wanted"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(
    page: Served, query: dict[str, str], status: int, error: str
) -> None:
    assert ask(page, "/api/anatomy", **query) == (status, {"error": error})


def test_a_checkpoint_that_is_not_there_is_named(page: Served) -> None:
    status, body = ask(page, "/api/anatomy", checkpoint=4, document="bob")
    assert status == 400
    assert body["error"].endswith(" has no checkpoint of step 4")


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        assert ask(page, "/api/checkpoints") == (200, {"checkpoints": []})
        status, body = ask(page, "/api/anatomy")
    assert (status, body["error"]) == (400, f"{tmp_path} holds no checkpoints")


@pytest.mark.soak
def test_a_crowd_is_answered_one_by_one_or_sent_away(page: Served) -> None:
    """Nobody waits for ever, and no more than one computes."""
    found: list[tuple[int, Any]] = []
    documents = ["".join(pair) for pair in zip("abcdefghijkl", "bcdefghijklm", strict=True)]
    askers = [
        threading.Thread(target=lambda d=d: found.append(ask(page, "/api/anatomy", document=d)))
        for d in documents
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(PATIENCE)
    refused = [body for status, body in found if status == 503]
    answered = {body["document"]: body for status, body in found if status == 200}
    assert len(refused) + len(answered) == len(documents)
    assert refused == [{"error": "too many ask at once: try again"}] * len(refused)
    assert len(answered) >= MOST_WAITING
    for document, body in answered.items():
        assert body == expected(document)

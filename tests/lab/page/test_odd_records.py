"""Records with numbers and letters that no run writes: told of in a sentence, and never shown."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from pathlib import Path

import pytest

from coordinator.core.event_json import EventError, from_json
from lab.page.feed import Feed
from lab.page.follower import Follower
from lab.page.metric_lines import step_lines
from lab.page.plain_json import PlainResponse, compact
from lab.page.rounds import round_tree
from lab.page.server import listen, url_of
from lab.report.reading import RunError, read_head
from lab.top.frame import Drawing, frame
from lab.top.view import View
from microgpt.support.cli import UserError
from tests.lab.page import records
from tests.lab.page.records import BEGIN

JOINED = {"kind": "joined", "time": BEGIN, "step": 1, "worker": 1, "name": "ada",
          "engine": "tape", "host": ""}  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        {"time": 1e308}, {"time": -1.0}, {"time": 1e11}, {"step": 1 << 63}, {"worker": 10**400},
        {"name": "\ud800"}, {"host": "x\udcff"},
    ],
)  # fmt: skip
def test_an_event_has_times_of_a_calendar_whole_numbers_of_63_bits_and_letters(
    odd: dict[str, object],
) -> None:
    assert from_json(json.dumps(JOINED)).step == 1
    with pytest.raises(EventError, match=rf"^joined: .* is no {next(iter(odd))}$"):
        from_json(json.dumps(JOINED | odd))


def test_names_of_numbers_are_letters_too() -> None:
    line = {"kind": "strategy_numbers", "time": BEGIN, "step": 1, "version": 1,
            "numbers": {"\ud800": 1.0}, "histograms": {}}  # fmt: skip
    with pytest.raises(EventError, match="is no numbers"):
        from_json(json.dumps(line))


def test_a_round_of_more_shards_than_there_are_is_told_as_it_is(tmp_path: Path) -> None:
    folder = records.write(tmp_path, records.epoch(1, 20, BEGIN), steps=20)
    text = (folder / "events.jsonl").read_text()
    (folder / "events.jsonl").write_text(text.replace('"shards": 2,', '"shards": 99999999999999,'))
    follower = Follower(folder)
    follower.poll(BEGIN)
    told = round_tree(folder, follower.epochs, 1, 5, summed=True)
    assert (told["counted"], told["tree"], len(told["shards"])) == ([0, 1], None, 2)


def test_json_that_viewers_get_is_json() -> None:
    odd = {"a": [float("nan"), 1.5], "b": {"c": float("-inf")}, "name": "\udcff"}
    assert compact(odd) == '{"a":[null,1.5],"b":{"c":null},"name":"\\udcff"}'
    assert PlainResponse(odd).body == compact(odd).encode()


def test_what_no_step_has_is_left_out_of_the_metrics() -> None:
    line = json.dumps({**records.metric(1), "lr": float("nan"), "shards": 10**400})
    complaints: list[str] = []
    (step,) = step_lines(line.encode() + b"\n", "m", complaints.append)
    assert (step.learning_rate, step.shards, step.loss) == (None, 0, 4.0)
    for seconds in ("-1.5", "99999999999.5"):
        negative = json.dumps(records.metric(2)).replace(
            '"seconds": 0.006', f'"seconds": {seconds}'
        )
        assert [*step_lines(negative.encode() + b"\n", "m", complaints.append)] == []
        assert complaints.pop().startswith("m: ")


def test_settings_of_a_stranger_are_short_letters_and_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "run\udcff"
    folder.mkdir()
    plain = json.loads(records.config())
    plain["promise"] = "[/]\x1b[2J\ud800"
    plain["training"]["seed"] = 10**400
    (folder / "config.json").write_text(json.dumps(plain))
    head = read_head(folder)
    assert (head.name, head.promise) == ("run?", "[/]\x1b[2J?")
    assert str(head.settings["seed"]) == str(10**400)[:200]
    plain["training"]["steps"] = 10**400
    (folder / "config.json").write_text(json.dumps(plain))
    with pytest.raises(RunError, match="is not the record of a run"):
        read_head(folder)


def test_a_promise_cannot_command_the_terminal() -> None:
    view = View()
    view.run = {"name": "it", "strategy": "[red]", "promise": "[/]\x1b[2J"}
    assert frame(view, BEGIN, Drawing(80, 10))[0] == "it  unknown  [red], [/]?[2J"


def test_viewers_get_each_message_once_while_another_comes(tmp_path: Path) -> None:
    feed = Feed(Follower(tmp_path), lambda text: None)
    got: list[tuple[int, bytes]] = []
    reader = threading.Thread(target=lambda: got.append(feed._after(4)))

    class Watched(deque[bytes]):
        def append(self, message: bytes) -> None:
            if message.startswith(f"id: {feed.boot}-6\n".encode()):
                reader.start()
                reader.join(0.05)  # it waits for us, or sees what is half done
            super().append(message)

    feed._kept = Watched(maxlen=3)
    for _ in range(6):
        feed._put("ping", "{}")
    reader.join()
    messages = b"".join(feed._framed(number, "ping", "{}") for number in (5, 6))
    assert got == [(6, messages)]


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
def test_an_address_for_all_is_opened_at_the_loopback_of_its_family() -> None:
    class Listening(socket.socket):
        def getsockname(self) -> tuple[str, int, int, int]:
            return "::", 81, 0, 0

    with Listening(socket.AF_INET6) as listening:
        assert url_of(listening) == "http://[::1]:81/"


@pytest.mark.parametrize(
    ("host", "said"),
    [("", "an address to listen at is wanted"), ("999.1.1.1", "999.1.1.1, port 0: [^(]*$")],
)
def test_an_address_that_is_none_is_one_sentence(host: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        listen(host, 0, exactly=True)

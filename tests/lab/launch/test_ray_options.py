"""What is asked of a Ray cluster, as far as that can be told without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.launch.launchers import ray, ray_launcher
from lab.launch.launchers.base import Launcher, WorkerKeys, WorkerRequest
from lab.launch.launchers.ray_wire import Order
from lab.launch.launchers.registry import make_launcher
from microgpt.support.cli import UserError

REQUEST = WorkerRequest(
    launch="0123456789abcdef",
    run=Path("runs/it"),
    address="tcp://10.0.0.1:5555",
    count=2,
    flags=("--engine", "tape", "--patience", "60"),
    cpus=2,
)


def test_a_plan_shows_each_actor_and_its_worker() -> None:
    launcher = make_launcher("ray", {"address": "10.0.0.1:6379", "resources": "lab:0.5"})
    assert isinstance(launcher, Launcher)
    command = (
        "python -m worker --connect tcp://10.0.0.1:5555 --name worker-{} "
        "--engine tape --patience 60"
    )
    actor = "worker-{}: an actor with 2 CPU, 0.5 lab, which Ray starts again: " + command
    assert str(launcher.plan(REQUEST)).splitlines() == [
        "Ray cluster: 10.0.0.1:6379; this project's code goes along",
        actor.format(1, 1),
        actor.format(2, 2),
    ]


@pytest.mark.parametrize("address", ["auto", "local", "head:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_addresses(address: str) -> None:
    assert ray.read_address(address) == address


@pytest.mark.parametrize("address", ["", "head", "head:", "head:0", "head:65536", "ray://head:1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UserError, match="is none of auto, local and HOST:PORT"):
        ray.read_address(address)


def test_resources() -> None:
    assert ray.read_resources("") == {}
    assert ray.read_resources("rack-1:1,disk:0.25") == {"rack-1": 1.0, "disk": 0.25}


@pytest.mark.parametrize("text", ["x", "x:", "x:0", "x:1,x:1", "CPU:2", "x:1,", "x:-1", "x:1e9"])
def test_what_are_no_resources(text: str) -> None:
    with pytest.raises(UserError, match="write NAME:AMOUNT"):
        ray.read_resources(text)


def test_unknown_options_are_named() -> None:
    with pytest.raises(UserError, match="no option 'adress': it has address, resources"):
        ray.make({"adress": "auto"})


def test_where_ray_is_missing_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_launcher, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs Ray, the extra 'ray': pip install '\.\[ray\]'$"):
        ray_launcher.require_ray()


def test_an_order_survives_its_way_to_the_driver() -> None:
    keys = WorkerKeys(b"public\n", b"\x00mine\xff", b"secret")
    for given in (None, keys):
        order = Order(
            address="local", owner="o", epoch="o/1", count=3, flags=["--a", "b c"], cpus=1,
            folder="/f", resources={"x": 0.5}, keys=given,
        )  # fmt: skip
        assert Order.read(json.loads(json.dumps(order.plain()))) == order
        assert "secret" not in repr(order)


def test_actors_of_a_run_are_known_by_its_directory_alone(tmp_path: Path) -> None:
    ours = ray_launcher.owner_of(tmp_path)
    assert ours == ray_launcher.owner_of(tmp_path / ".." / tmp_path.name)
    assert ours != ray_launcher.owner_of(tmp_path / "other")
    assert len(ours) == 16

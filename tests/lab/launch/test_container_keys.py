"""Containers get the keys that they need: workers never the coordinator's private one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from coordinator.net.allow_list import AllowList
from lab.launch import container, container_keys
from microgpt.protocol.keys import has_coordinator
from microgpt.support.cli import UserError
from tests.docker.standin import ROOT
from worker.curve import load_keys


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Of the coordinator and of its workers: two new volumes."""
    made = tmp_path / "keys", tmp_path / "worker-keys"
    for folder in made:
        folder.mkdir()
    return made


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_compose_mounts_the_coordinators_keys_nowhere_else() -> None:
    mounted = {
        name: [volume.rpartition("}:")[2] for volume in service["volumes"] if "KEYS" in volume]
        for name, service in compose()["services"].items()
    }
    assert mounted.pop("coordinator") == ["/keys", "/worker-keys"]
    assert (mounted["worker"], mounted["page"]) == (["/worker-keys:ro"], [])
    assert {path for paths in mounted.values() for path in paths} == {"/worker-keys:ro"}
    assert not [text for text in compose()["services"]["worker"]["volumes"] if "runs" in text]


def test_workers_are_given_all_but_the_private_key(folders: tuple[Path, Path]) -> None:
    keys, workers = folders
    container_keys.make_keys(keys, workers)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in workers.iterdir()}
    assert files == {"coordinator.key": 0o644, "worker.key": 0o644, "worker.key_secret": 0o600}
    ours, theirs = load_keys(keys), load_keys(workers)
    assert (theirs.public, theirs.secret) == (ours.public, ours.secret)
    assert theirs.coordinator == ours.coordinator
    assert AllowList(keys / "workers").callback("", theirs.public)


def test_keys_of_an_earlier_version_serve_on(folders: tuple[Path, Path]) -> None:
    keys, workers = folders
    container_keys.make_keys(keys)  # one volume for all
    before = {path: path.read_bytes() for path in keys.rglob("*.key*")}
    (workers / "worker.key_secret").write_text("of a volume that is no more")
    container_keys.make_keys(keys, workers)
    assert {path: path.read_bytes() for path in keys.rglob("*.key*")} == before
    for path in workers.iterdir():
        assert path.read_bytes() == (keys / path.name).read_bytes()
    changed = {path: path.stat().st_mtime_ns for path in workers.iterdir()}
    container_keys.make_keys(keys, workers)
    assert {path: path.stat().st_mtime_ns for path in workers.iterdir()} == changed


def test_a_key_that_was_taken_off_the_list_does_not_come_back(folders: tuple[Path, Path]) -> None:
    keys, workers = folders
    container_keys.make_keys(keys, workers)
    (keys / "workers" / "worker.key").unlink()
    container_keys.make_keys(keys, workers)
    assert not list((keys / "workers").iterdir())


def test_one_folder_for_both_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    keys, _ = folders
    (tmp_path / "same").symlink_to(keys)
    with pytest.raises(UserError, match=r"MICROGPT_WORKER_KEYS is the folder .* private key"):
        container_keys.make_keys(keys, tmp_path / "same")
    assert not list(keys.iterdir())


@pytest.mark.parametrize(
    ("named", "coordinator", "there", "told"),
    [
        ("./keys", "tcp://far:5555", False, "give MICROGPT_WORKER_KEYS=./keys\n"),
        ("./keys", "tcp://far:5555", True, ""),
        ("./keys", "tcp://coordinator:5555", False, ""),
        (None, "tcp://far:5555", False, ""),
    ],
)
def test_who_still_names_the_other_variable_is_told(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    named: str | None, coordinator: str, there: bool, told: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(container_keys, "WORKER_KEYS", folders[1])
    if there:
        (folders[1] / "coordinator.key").touch()
    variables = {"MICROGPT_COORDINATOR": coordinator} | ({"MICROGPT_KEYS": named} if named else {})
    container_keys.tell_of_the_other_variable(variables)
    assert capfd.readouterr().err.partition(": ")[2] == told


def test_a_worker_runs_as_whom_its_keys_belong_to(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    owner = folders[0] / "docker-compose.yml"
    owner.touch()
    os.chown(owner, 1000, 1000)
    monkeypatch.setattr(container, "OWNER", owner)
    os.chown(folders[1], 0, 0)
    assert container.choose_user({}, folders[1]) == (1000, 1000), "a volume that is still new"
    os.chown(folders[1], 1234, 1235)
    assert container.choose_user({}, folders[1]) == (1234, 1235)


def test_a_folder_that_may_not_be_looked_into_is_one_line(tmp_path: Path) -> None:
    too_long = tmp_path / ("x" * 300)  # also for root, who may look into any other
    with pytest.raises(UserError, match=r"cannot look into .*: File name too long"):
        has_coordinator(too_long)


def test_workers_of_one_kind_have_a_pair_of_their_own(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    for _ in range(2):  # the second time changes nothing
        folder = container_keys.make_bundle(keys, "spot")
    assert folder == keys / "spot"
    names = ["coordinator.key", "worker.key", "worker.key_secret"]
    assert sorted(path.name for path in folder.glob("*.key*")) == names
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in (keys / "workers").iterdir()) == ["spot.key", "worker.key"]
    spot, shared = load_keys(folder), load_keys(keys)
    assert spot.coordinator == shared.coordinator
    assert spot.public != shared.public
    (keys / "workers" / "spot.key").unlink()
    allowed = AllowList(keys / "workers")
    assert not allowed.callback("", spot.public)
    assert allowed.callback("", shared.public)


@pytest.mark.parametrize("name", ["workers", "", "../x", "A", "-x", "x.key"])
def test_names_that_keys_cannot_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no name for keys"):
        container_keys.make_bundle(tmp_path / "keys", name)
    assert not (tmp_path / "keys").exists()


def test_the_entry_point_makes_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MICROGPT_CURVE", str(tmp_path / "keys"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # else this very process becomes another user
    assert container.main(["keys", "spot"]) == 0
    made = f"keys are in {tmp_path}/keys\nfor workers of spot: {tmp_path}/keys/spot\n"
    assert capfd.readouterr().out == made
    assert container.main(["keys", "workers"]) == 1
    assert capfd.readouterr().err.startswith("error: 'workers' is no name for keys")

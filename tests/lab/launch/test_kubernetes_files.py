"""The manifests of ``deploy/``: of the API's form, complete, and with what the program knows.

There is no cluster here, and no kubectl: what ``kubectl apply -k`` makes of them is made by a few
lines of this file.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from lab.launch.container import PORT, PROGRAMS, RUNS
from lab.launch.container_keys import KEYS
from lab.page.command import main as page_command
from microgpt.support.environment import KNOWN
from tests.docker.standin import ROOT

DEPLOY = ROOT / "deploy"
SCHEMA_VERSIONS = ("1.28", "1.37")  # of Kubernetes: the oldest and newest that are tried
Object = dict[str, Any]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ``keys`` is, made by the command of docs/kubernetes.md."""
    place = tmp_path_factory.mktemp("kubernetes")
    command = [sys.executable, str(ROOT / "scripts" / "container.py"), "keys"]
    env = os.environ | {"MICROGPT_CURVE": str(place / "keys"), "MICROGPT_UID": str(os.getuid())}
    subprocess.run(command, env=env, check=True, capture_output=True)
    return place


def read(path: Path) -> list[Object]:
    found: list[Object] = list(yaml.safe_load_all(path.read_text()))
    return found


def built(folder: Path, keys: Path) -> list[Object]:
    """The objects that a kustomization makes: of its files, generators, bases and components."""
    kustomization = read(folder / "kustomization.yaml")[0]
    objects: list[Object] = []
    for name in kustomization.get("resources", []):
        path = folder / name
        objects += built(path, keys) if path.is_dir() else read(path)
    for generator in kustomization.get("configMapGenerator", []):
        data = dict(text.split("=", 1) for text in generator["literals"])
        objects.append(named("ConfigMap", generator["name"], data=data))
    for generator in kustomization.get("secretGenerator", []):
        data = {Path(name).name: (keys / name).read_text() for name in generator["files"]}
        objects.append(named("Secret", generator["name"], stringData=data))
    for name in kustomization.get("components", []):
        for change in read(folder / name / "kustomization.yaml")[0]["patches"]:
            (patch,) = read(folder / name / change["path"])
            (target,) = [each for each in objects if _is(each, **change["target"])]
            assert _is(patch, **change["target"])
            pod_of(target)["containers"] += pod_of(patch)["containers"]
    for each in objects:
        if "namespace" in kustomization and each["kind"] != "Namespace":
            each["metadata"]["namespace"] = kustomization["namespace"]
    return objects


def named(kind: str, name: str, **content: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}


def _is(each: Object, kind: str, name: str) -> bool:
    return (each["kind"], each["metadata"]["name"]) == (kind, name)


def pod_of(each: Object) -> Object:
    pod: Object = each["spec"]["template"]["spec"]
    return pod


@pytest.fixture(params=["kubernetes", "kubernetes-with-page"])
def objects(request: pytest.FixtureRequest, keys: Path) -> list[Object]:
    """All that one of the folders makes."""
    return copy.deepcopy(built(DEPLOY / request.param, keys))


def pods(objects: list[Object]) -> dict[str, Object]:
    return {
        each["metadata"]["name"]: pod_of(each)
        for each in objects
        if each["kind"] in ("StatefulSet", "Deployment")
    }


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for name, pod in pods(objects).items():
        for container in (*pod["initContainers"], *pod["containers"]):
            yield name, container


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


# --- the API -------------------------------------------------------------------------------------


def test_every_object_is_of_the_form_of_its_api(objects: list[Object]) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate",
        reason="the API's schemas are not here: pip install kubernetes-validate",
    )
    (worker,) = of_kind(objects, "Deployment").values()
    wrong = copy.deepcopy(worker)
    pod_of(wrong)["containers"][0]["argss"] = ["worker"]
    for version in SCHEMA_VERSIONS:
        for each in objects:
            validate.validate(each, version, strict=True)
        with pytest.raises(validate.ValidationError, match="argss"):
            validate.validate(wrong, version, strict=True)


def test_kustomizations_name_exactly_the_files_that_there_are() -> None:
    named, there = set(), set()
    for path in sorted(DEPLOY.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            there.add(path)
            continue
        kustomization = read(path)[0]
        for name in (*kustomization.get("resources", []), *kustomization.get("components", [])):
            target = (path.parent / name).resolve()
            named.add(target if target.is_file() else target / "kustomization.yaml")
        named |= {path.parent / patch["path"] for patch in kustomization.get("patches", [])}
    bases = {path for path in named if path.name == "kustomization.yaml"}
    assert all(path.is_file() for path in bases)
    assert named - bases == there


def test_what_objects_refer_to_is_there(objects: list[Object]) -> None:
    secrets, settings = of_kind(objects, "Secret"), of_kind(objects, "ConfigMap")
    for name, pod in pods(objects).items():
        claims = {"runs"} if name == "coordinator" else set()
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v} <= set(secrets)
        mounted = {
            mount["name"]
            for _, container in containers([each for each in objects if _named(each, name)])
            for mount in container["volumeMounts"]
        }
        assert mounted == volumes | claims
    for _, container in containers(objects):
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in settings
    coordinator = of_kind(objects, "StatefulSet")["coordinator"]["spec"]
    (service,) = of_kind(objects, "Service").values()
    assert coordinator["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == coordinator["selector"]["matchLabels"]
    for each in (
        *of_kind(objects, "StatefulSet").values(),
        *of_kind(objects, "Deployment").values(),
    ):
        wanted = each["spec"]["selector"]["matchLabels"].items()
        assert wanted <= each["spec"]["template"]["metadata"]["labels"].items()


def _named(each: Object, name: str) -> bool:
    return each["kind"] in ("StatefulSet", "Deployment") and each["metadata"]["name"] == name


# --- the program ---------------------------------------------------------------------------------


def test_programs_flags_variables_and_paths_exist(objects: list[Object]) -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    flags = {flag for parameter in page_command.params for flag in parameter.opts}
    for _, container in containers(objects):
        assert f"${{MICROGPT_IMAGE:-{container['image']}}}" in compose
        if "command" in container:
            continue
        program, *arguments = container["args"]
        assert program in PROGRAMS
        assert program == container["name"]
        assert {text for text in arguments if text.startswith("-")} <= flags
        assert {entry["name"] for entry in container.get("env", [])} <= KNOWN
        for probe in (container[key] for key in container if key.endswith("Probe")):
            python, isolated, script, role = probe["exec"]["command"]
            assert (python, isolated) == ("python", "-I")
            assert (ROOT / Path(script).relative_to("/app")).is_file()
            assert role in PROGRAMS
    settings = of_kind(objects, "ConfigMap")["settings"]["data"]
    assert set(settings) <= KNOWN
    (port,) = of_kind(objects, "Service")["coordinator"]["spec"]["ports"]
    environment = variables(objects, "coordinator") | settings
    assert environment["MICROGPT_BIND"] == f"tcp://0.0.0.0:{port['port']}"
    assert port["port"] == PORT
    assert variables(objects, "worker")["MICROGPT_COORDINATOR"] == f"tcp://coordinator:{PORT}"
    assert environment["MICROGPT_RUN_DIR"].startswith("runs/")
    assert RUNS.name == "runs"


def variables(objects: list[Object], name: str) -> dict[str, str]:
    (found,) = [c for _, c in containers(objects) if c["name"] == name and "env" in c]
    return {entry["name"]: entry["value"] for entry in found["env"]}


def test_the_private_key_of_the_coordinator_is_in_no_pod_but_its_own(objects: list[Object]) -> None:
    secrets = of_kind(objects, "Secret")
    held = {
        name: sorted(
            key
            for volume in pod["volumes"]
            if "secret" in volume
            for key in secrets[volume["secret"]["secretName"]]["stringData"]
        )
        for name, pod in pods(objects).items()
    }
    assert held == {
        "coordinator": ["coordinator.key", "coordinator.key_secret", "worker.key"],
        "worker": ["coordinator.key", "worker.key", "worker.key_secret"],
    }
    for name, container in containers(objects):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        if container["name"] == "page":
            assert set(mounts) == {"runs", "tmp"}
            assert mounts["runs"]["readOnly"]
        elif container["name"] != "keys":
            assert variables(objects, name)["MICROGPT_CURVE"] == str(KEYS)
            assert mounts["keys"]["mountPath"] == str(KEYS)
            assert mounts["keys"]["readOnly"]
            assert "secret" not in mounts, "only the copy, which is its owner's alone"
    (allowed,) = [v for v in pods(objects)["coordinator"]["volumes"] if v["name"] == "allowed"]
    assert allowed["secret"]["secretName"] == "allowed-workers"


def test_what_the_first_container_does_with_keys(objects: list[Object], tmp_path: Path) -> None:
    """Its shell line, with folders of this machine: the programs accept what it makes."""
    from microgpt.protocol.keys import check_private

    for name, pod in pods(objects).items():
        (volume,) = [each for each in pod["volumes"] if each["name"] == "secret"]
        data = of_kind(objects, "Secret")[volume["secret"]["secretName"]]["stringData"]
        secret, keys = tmp_path / name / "secret", tmp_path / name / "keys"
        (secret / "..data").mkdir(parents=True)
        keys.mkdir()
        for key, text in data.items():  # links to files that their group may read
            (secret / "..data" / key).write_text(text)
            (secret / "..data" / key).chmod(volume["secret"]["defaultMode"])
            (secret / key).symlink_to(f"..data/{key}")
        shell, c, line = pod["initContainers"][0]["command"]
        line = line.replace("/secret", str(secret)).replace("/keys", str(keys))
        subprocess.run([shell, c, line], check=True)
        assert sorted(path.name for path in keys.iterdir() if path.is_file()) == sorted(data)
        (private,) = keys.glob("*.key_secret")
        check_private(private)
        assert (keys / "workers").is_dir() == (name == "coordinator"), "something is mounted there"


def test_pods_are_nobody_special_and_end_in_time(objects: list[Object]) -> None:
    for pod in pods(objects).values():
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] == context["fsGroup"] == 10001, "the image's own user"
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["terminationGracePeriodSeconds"] >= 10
    for _, container in containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"]["memory"]

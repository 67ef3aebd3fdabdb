"""The wheel: what it holds, and that an installation of it trains, far from any clone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from lab.command_line import PROGRAMS
from microgpt.checkpoint.format import load
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import ENDLESS, ROOT, TINY, Lab, Process
from tests.sharing import folder_of_the_run, once
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(110)
ROOMS = ("microgpt", "coordinator", "worker", "aggregator", "lab")
HELD = (".py", ".txt", ".json", ".html", ".css", ".js", ".svg")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel in it, and the folder of its packages."""

    wheel: Path
    bin: Path
    packages: Path


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(place: Path) -> Path:
    """The wheel of a copy of the project: setuptools writes beside the sources."""
    source = place / "source"
    for room in ROOMS:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, source / room, ignore=skip)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    version = metadata.version("setuptools")
    assert int(version.partition(".")[0]) >= 77, f"setuptools {version}: 'make setup' has a newer"
    run(sys.executable, "-c", BUILD, place, cwd=source)
    shutil.rmtree(source)
    [wheel] = place.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in an empty environment, made once for a test run.

    What it depends on is lent by the environment of the tests.
    """
    folder = folder_of_the_run(tmp_path_factory.getbasetemp())
    place = folder / "installed"
    python = place / "venv" / "bin" / "python"
    tell = "import sysconfig; print(sysconfig.get_path('purelib'))"
    with once(folder, "installed") as ours:
        if ours:
            shutil.rmtree(place, ignore_errors=True)  # of one that has failed
            place.mkdir()
            wheel = build_wheel(place)
            run(sys.executable, "-m", "venv", place / "venv", cwd=place)
            offline = ("--no-deps", "--no-index", "--no-compile")
            run(python, "-m", "pip", "install", *offline, wheel, cwd=place)
            packages = Path(run(python, "-c", tell, cwd=place).strip())
            lend(packages, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    [wheel] = place.glob("*.whl")
    return Installation(wheel, python.parent, Path(run(python, "-c", tell, cwd=place).strip()))


def lend(packages: Path, folders: list[str]) -> None:
    """Let an environment find more packages in these folders, and in those that they lend."""
    lent = [path.read_text().split("\n") for f in folders for path in Path(f).glob("*.pth")]
    known = [line for lines in lent for line in lines if line.startswith("/")]
    (packages / "lent.pth").write_text("\n".join(dict.fromkeys([*folders, *known])) + "\n")


@pytest.fixture
def far(lab: Lab, installed: Installation) -> Lab:
    """A lab whose processes know nothing of the clone."""
    del lab.env["PYTHONPATH"]
    lab.env["PATH"] = f"{installed.bin}:{lab.env['PATH']}"
    assert not lab.place.is_relative_to(ROOT)
    return lab


def microgpt(far: Lab, *arguments: str, **variables: str) -> Process:
    return far.start("microgpt", *arguments, name=arguments[0], **variables)


def output(process: Process) -> str:
    assert process.wait() == 0, process.out + process.err
    assert process.err == ""
    return process.out


# --- what it holds -------------------------------------------------------------------------------


def test_the_wheel_holds_every_room_and_its_data(installed: Installation) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT)) for path in files if path.suffix in HELD}
    assert held == wanted


def test_every_module_can_be_imported_and_none_is_of_the_clone(
    far: Lab, installed: Installation
) -> None:
    (far.place / "look.py").write_text(
        "import importlib, json, pkgutil, sys\n"
        f"for room in {ROOMS}:\n"
        "    package = importlib.import_module(room)\n"
        "    for module in pkgutil.walk_packages(package.__path__, room + '.'):\n"
        "        if '.with_' not in module.name:\n"
        "            try:\n"
        "                importlib.import_module(module.name)\n"
        "            except ModuleNotFoundError as error:\n"
        "                assert error.name == 'ray', error  # an extra that is not installed\n"
        "ours = {name: module.__file__ for name, module in sys.modules.items()\n"
        f"        if name.partition('.')[0] in {ROOMS}}}\n"
        "print(json.dumps([ours, sys.path]))\n"
    )
    ours, path = json.loads(output(far.start("python", "look.py", name="look")))
    assert {"microgpt.engine.judge", "lab.faults.stage", "lab.bench.peers.install"} <= ours.keys()
    for name, file in ours.items():
        assert Path(file).is_relative_to(installed.packages), name
    assert str(ROOT) not in path


# --- the command ---------------------------------------------------------------------------------


#: One that is lean, one that starts others, and one that others start.
FEW = ("sample", "train", "worker")


@pytest.mark.parametrize("program", [*FEW, *map(soak, sorted(PROGRAMS.keys() - FEW))])
def test_every_program_has_help_and_version(far: Lab, program: str) -> None:
    shown = output(microgpt(far, program, "--help"))
    assert shown.lower().startswith(f"usage: microgpt {program} ")
    assert "scripts/" not in shown
    assert output(microgpt(far, program, "--version")) == "microgpt-data-parallel 0.1.0\n"
    wrong = microgpt(far, program, "--nonsense")
    assert (wrong.wait(), wrong.out) == (2, "")
    assert "error: " in wrong.err
    assert "Traceback" not in wrong.err


def test_the_command_itself(far: Lab) -> None:
    shown = output(microgpt(far, "--help"))
    for name, program in PROGRAMS.items():
        assert f"  {name} " in shown
        assert program.about in shown
    bare = far.start("microgpt", name="bare")
    assert (bare.wait(), bare.out) == (2, shown)
    assert output(microgpt(far, "--version")) == "microgpt-data-parallel 0.1.0\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("trian", "did you mean train?"), ("zzz", "microgpt --help lists the commands")],
)
def test_a_misspelt_command_is_one_line(far: Lab, name: str, hint: str) -> None:
    wrong = microgpt(far, name)
    assert wrong.wait() == 2
    assert wrong.out == ""
    assert wrong.err == f"error: there is no command '{name}': {hint}\n"


@pytest.mark.parametrize("name", ["coordinator", "worker"])
def test_members_still_start_as_modules(far: Lab, name: str) -> None:
    shown = output(far.start("python", "-m", name, "--help", name=name))
    assert shown.startswith(f"Usage: python -m {name} ")


@pytest.mark.parametrize("program", ["train", "sample"])
def test_a_signal_during_the_imports_is_quiet(far: Lab, program: str) -> None:
    """A module that everything imports early waits until the signal has come."""
    (far.place / "early").mkdir()
    (far.place / "early" / "msgpack.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n"
    )
    process = microgpt(far, program, "no-file", PYTHONPATH=str(far.place / "early"))
    process.expected = True
    assert process.wait() == 128 + signal.SIGINT
    assert (process.out, process.err) == ("", "")


# --- a life far from any clone -------------------------------------------------------------------


def test_train_sample_and_look_in_another_folder(far: Lab, reference: Reference) -> None:
    flags = (*TINY, "--steps", "5", "--batch-size", "3", "--engine", "scalar")
    more = ("--workers", "2", "--data", "names.txt", "--run-dir", "runs/it")
    told = output(microgpt(far, "train", *flags, *more))
    assert told.endswith("more samples: microgpt sample runs/it/checkpoint.msgpack\n")
    ends_alike(far.run_dir(), reference(5, 3))

    samples = output(microgpt(far, "sample", "runs/it", "--num-samples", "3", "--seed", "1"))
    assert len(samples.splitlines()) == 3
    listed = json.loads(output(microgpt(far, "checkpoint", "list", "runs/it", "--json")))
    assert json.dumps(reference(5, 3).state_sha256) in json.dumps(listed)
    verified = output(microgpt(far, "checkpoint", "verify", "runs/it"))
    assert "runs/it" in verified

    again = output(
        microgpt(
            far, "train", "--resume", "runs/it", "--steps", "7", *more[:2], "--engine", "scalar"
        )
    )
    assert "all 7 steps are done" in again


@pytest.mark.soak
def test_who_is_stopped_is_told_how_to_go_on_with_the_command(far: Lab) -> None:
    endless = (*ENDLESS, "--batch-size", "8", "--engine", "scalar", "--workers", "1")
    train = microgpt(far, "train", *TINY, *endless, "--data", "names.txt", "--run-dir", "runs/it")
    far.run_dir().reaches(2)
    train.send(signal.SIGINT)
    assert train.wait() == 128 + signal.SIGINT
    assert "to go on: microgpt train --resume runs/it" in train.out


@pytest.mark.soak
def test_sampling_needs_msgpack_alone(far: Lab, installed: Installation) -> None:
    """Without the lent packages, but with msgpack."""
    flags = ("--steps", "1", "--batch-size", "1", "--workers", "1", "--engine", "scalar")
    output(microgpt(far, "train", *TINY, *flags, "--data", "names.txt", "--run-dir", "runs/it"))
    import msgpack

    (far.place / "lean").mkdir()
    (far.place / "lean" / "msgpack").symlink_to(Path(msgpack.__file__).parent)
    main = "import sys; from lab.command_line import main; main()"
    # -S leaves out the environment's packages, and what it is lent
    lean = {"PYTHONPATH": f"{far.place / 'lean'}:{far.place / 'own'}"}
    (far.place / "own").mkdir()
    for room in ROOMS:
        (far.place / "own" / room).symlink_to(installed.packages / room)
    python = (str(installed.bin / "python"), "-S", "-c", main)
    sample = far.start(*python, "sample", "runs/it", "--num-samples", "1", name="lean", **lean)
    assert len(output(sample).splitlines()) == 1
    train = far.start(*python, "train", "--help", name="lean", **lean)
    assert train.wait() == 1
    assert train.err == "error: microgpt train needs click: pip install click\n"


def test_the_simulator_runs(far: Lab) -> None:
    simulate = microgpt(far, "simulate", "--schedules", "2", "--seed", "1")
    assert "every one ended with the bits of the quiet run" in output(simulate)


OWN = """
import microgpt

same = {"steps": 6, "batch_size": 8, "strategy": "mine.py:Lookahead", "strategy_options": {"k": 3}}
alone = microgpt.train("names.txt", **same)
many = microgpt.train("names.txt", **same, workers=100, simulate=True)
real = microgpt.train("names.txt", **same, workers=4)
print({result.checkpoint.state_sha256 for result in (alone, many, real)} == {%r})
"""


@pytest.mark.slow
@pytest.mark.soak
def test_a_strategy_of_a_new_user_in_an_empty_folder(far: Lab) -> None:
    """From the page alone: written, checked, simulated, run for real, and compared with sync."""
    page = (ROOT / "docs" / "strategies.md").read_text()
    (code,) = (block for block in page.split("```python\n")[1:] if "class Lookahead(" in block)
    (far.place / "mine.py").write_text(code.partition("```")[0])
    checked = output(microgpt(far, "check-strategy", "mine.py:Lookahead", "--schedules", "10"))
    assert checked.endswith("all laws are kept\n")
    own = ("--strategy", "mine.py:Lookahead", "--strategy-option", "k=3")
    more = ("--data", "names.txt", "--workers", "2", "--run-dir", "runs/it")
    output(microgpt(far, "train", "--steps", "6", "--batch-size", "8", *own, *more))
    digest = load(far.run_dir().newest).state_sha256
    assert output(far.start("python", "-c", OWN % digest, name="notebook")) == "True\n"
    compared = microgpt(
        far, "compare-strategies", "--quick", "--only", "mine", "--also", "mine.py:Lookahead"
    )
    assert compared.wait() == 0, compared.err
    assert "mine.py:Lookahead | exact | 268,288 | 64 | 2." in compared.out

"""Who may import whom, and what is called nowhere: read with ``ast``, nothing is imported.

The checker is a function from source texts to complaints, so that each rule is also tested on a
text that breaks it; files that do not exist yet are simply not there to complain about.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.processes import ROOT
from tests.repository.import_reader import (
    PACKAGES,
    Module,
    Project,
    circle,
    imported_modules,
    neighbour,
    project_of,
    read_project,
    within,
)

#: Rooms and files of the library that know no engine: all but the engines and the notebook API.
BELOW_ENGINES = (
    "value", "model", "parameters", "tokenizer", "config", "sampling", "explain", "anatomy",
    "loss_curve", "training", "data", "optim", "numerics", "checkpoint", "compression",
    "aggregation", "replicas", "strategies", "protocol", "support", "distribution",
)  # fmt: skip
SHELL = ("zmq", "socket", "asyncio", "threading", "time", "os", "subprocess", "signal")

FILES_OF_DATA = ("microgpt.data.dataset", "microgpt.data.documents", "microgpt.data.download")

#: Nobody in the first place (a module with everything under it) imports anything in the second.
FORBIDDEN: list[tuple[str, tuple[str, ...]]] = [
    ("microgpt", ("coordinator", "worker", "aggregator", "lab", "scripts", "zmq")),
    (
        "coordinator",
        ("worker", "aggregator", "lab", "scripts", "microgpt.engine", "microgpt.value"),
    ),
    ("worker", ("coordinator", "aggregator", "lab", "scripts")),
    (
        "aggregator",
        (
            "lab", "scripts", "microgpt.engine", "microgpt.value", "worker.executor",
            "worker.client", "coordinator.run", "coordinator.checkpointing",
        ),
    ),
    ("lab", ("scripts",)),
    # value <- model <- engine: the model works on any scalars, and names none.
    ("microgpt.value", PACKAGES),
    ("microgpt.model", (*PACKAGES, "numpy", "llvmlite", "socket")),
    *((f"microgpt.{room}", ("microgpt.engine", "microgpt.api")) for room in BELOW_ENGINES),
    ("microgpt.engine", ("microgpt.api", "microgpt.strategies", "microgpt.training")),
    *(
        (f"microgpt.{leaf}", ("llvmlite",))
        for leaf in (
            "tokenizer", "parameters", "optim.reduction", "optim.adam", "sampling",
            "protocol.messages",
        )
    ),
    # Decisions: no sockets, clocks, threads or files.
    ("microgpt.strategies", (*SHELL, "microgpt.protocol", *FILES_OF_DATA, "microgpt.support")),
    (
        "microgpt.compression",
        (*SHELL, "microgpt.protocol", "microgpt.strategies", *FILES_OF_DATA, "microgpt.support"),
    ),
    ("worker.state", (*SHELL, "worker.client", "worker.executor", "microgpt.engine")),
    *(
        (
            f"aggregator.{module}",
            (*SHELL, "coordinator.net", "coordinator.judge", "coordinator.event_loop"),
        )
        for module in ("state", "crew", "job_rounds")
    ),
    (
        "coordinator.core",
        (
            *SHELL, "coordinator.net", "coordinator.checkpointing", "coordinator.run",
            "coordinator.event_loop", "coordinator.judge", *FILES_OF_DATA,
        ),
    ),
    ("coordinator.net", ("coordinator.checkpointing", "coordinator.run", "coordinator.event_loop")),
    ("coordinator.checkpointing", ("coordinator.run", "coordinator.event_loop")),
    *((package, ("pickle", "marshal", "shelve", "dill", "cloudpickle")) for package in PACKAGES),
]  # fmt: skip
#: What somebody in the first place may import of it nevertheless: the options of what has a name,
#: and who is to blame for a user's own code.
EXCEPT = {
    "microgpt.strategies": ("microgpt.support.options", "microgpt.support.user_class"),
    "microgpt.compression": ("microgpt.support.options", "microgpt.support.user_class"),
}
#: Whoever is in the first place imports nothing else of the project than the second.
ONLY = [
    (
        "microgpt.support",
        (
            "microgpt.support",
            "microgpt.__version__",  # for --version
            "microgpt.checkpoint.container.CheckpointError",  # what a failed write raises
            "microgpt.protocol.schema.MAX_COUNT",  # the largest number of an option
        ),
    ),
    ("microgpt.protocol", ("microgpt.protocol", "microgpt.support")),
    ("microgpt.numerics", ("microgpt.numerics", "microgpt.support", "microgpt.parameters")),
]
#: Entry points that run with nothing but msgpack installed beside Python.
LEAN = ("scripts.anatomy", "scripts.sample", "scripts.checkpoint")
LEAN_MAY_NEED = {"msgpack"}
#: Named nowhere: they run what they read.
UNSAFE = {
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "zmq.recv_pyobj",
    "zmq.send_pyobj",
}
UNSAFE_METHODS = {"recv_pyobj", "send_pyobj"}
#: Wall clocks; a monotonic clock is none.
CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "time.ctime",
    "time.strftime",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}
#: What may be named of the modules with a global generator.
SEEDED = {"random": {"random.Random"}, "numpy.random": {"numpy.random.Generator"}}


def complaints(project: Project) -> list[str]:
    """Every breach of the rules, as ``module:line says what``."""
    found: list[str] = []
    for module in project.values():
        found += _forbidden_imports(module)
        found += _unsafe_names(module)
        if within(module.name, "microgpt"):
            found += _hidden_inputs(module)
    for entry in LEAN:
        found += _heavy_imports(project, entry)
    found += _engines_behind_the_coordinator(project)
    if names := circle(project):
        found.append(f"an import circle: {' -> '.join(names)}")
    return found


def _forbidden_imports(module: Module) -> Iterator[str]:
    for place, names in FORBIDDEN:
        if within(module.name, place):
            for imported in module.imports:
                excepted = any(within(imported.name, name) for name in EXCEPT.get(place, ()))
                if not excepted and any(within(imported.name, name) for name in names):
                    yield f"{module.name}:{imported.line} imports {imported.name}"
    for place, allowed in ONLY:
        if within(module.name, place):
            for imported in module.imports:
                ours = any(within(imported.name, package) for package in PACKAGES)
                if ours and not any(within(imported.name, name) for name in allowed):
                    yield f"{module.name}:{imported.line} imports {imported.name}"


def _unsafe_names(module: Module) -> Iterator[str]:
    for name, line in module.names:
        if name in UNSAFE or name.rpartition(".")[2] in UNSAFE_METHODS:
            yield f"{module.name}:{line} names {name}"
    for keyword, line in module.calls_with_keywords:
        if keyword == "allow_pickle":
            yield f"{module.name}:{line} allows pickle"


def _hidden_inputs(module: Module) -> Iterator[str]:
    for name, line in module.names:
        if name in CLOCKS:
            yield f"{module.name}:{line} reads the clock by {name}"
        for place, allowed in SEEDED.items():
            if within(name, place) and name != place and not any(within(name, a) for a in allowed):
                yield f"{module.name}:{line} draws from a hidden generator by {name}"


def _heavy_imports(project: Project, entry: str) -> Iterator[str]:
    for name in imported_modules(project, entry):
        for imported in project[name].imports:
            top = neighbour(project, name, imported.name).partition(".")[0]
            own = top in PACKAGES
            light = top in sys.stdlib_module_names or top in LEAN_MAY_NEED
            if imported.at_import_time and not own and not light:
                yield f"{entry} needs {imported.name} through {name}:{imported.line}"


def _engines_behind_the_coordinator(project: Project) -> Iterator[str]:
    for start in project:
        if not (within(start, "coordinator") or within(start, "aggregator")):
            continue
        for name in imported_modules(project, start):
            worker = within(start, "coordinator") and within(name, "worker")
            if worker or within(name, "microgpt.engine"):
                yield f"{start} runs {name} when it is imported"


# The rules, held by the repository


@pytest.fixture(scope="module")
def project() -> dict[str, Module]:
    return read_project()


def test_the_project_keeps_the_rules(project: dict[str, Module]) -> None:
    assert complaints(project) == []


def test_the_project_is_really_read(project: dict[str, Module]) -> None:
    known = {
        "value",
        "model",
        "tokenizer",
        "parameters",
        "optim.reduction",
        "optim.adam",
        "sampling",
    }
    assert {f"microgpt.{name}" for name in known} <= project.keys()
    assert {"microgpt", "microgpt.engine", "microgpt.engine.scalar"} <= project.keys()
    imported = {i.name for i in project["microgpt.engine.scalar"].imports}
    assert {"microgpt.value.Value", "microgpt.model.document_loss", "numpy"} <= imported
    assert {"microgpt.model", "microgpt.tokenizer"} <= set(
        imported_modules(project, "microgpt.sampling")
    )


def test_rules_are_about_modules_that_exist(project: dict[str, Module]) -> None:
    """A renamed module must not leave its rule behind."""
    later = {"microgpt.compression"}
    for place, _ in [*FORBIDDEN, *ONLY]:
        assert place in {*later, *PACKAGES} or place in project, place
    for _, allowed in ONLY:
        for name in allowed:
            assert name in project or name.rpartition(".")[0] in project, name
    assert set(LEAN) <= project.keys()


# The rules, broken


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("microgpt__x", "import zmq", "microgpt.x:1 imports zmq"),
        ("microgpt__x", "import zmq.asyncio as z", "microgpt.x:1 imports zmq.asyncio"),
        ("microgpt__x", "def f():\n    import zmq", "microgpt.x:2 imports zmq"),
        (
            "microgpt__x",
            "from coordinator import state",
            "microgpt.x:1 imports coordinator.state",
        ),
        (
            "microgpt__x",
            "from coordinator.core.state import *",
            "microgpt.x:1 imports coordinator.core.state",
        ),
        ("microgpt__engine__x", "import worker", "microgpt.engine.x:1 imports worker"),
        ("microgpt__engine__x", "from ... import worker", None),  # beyond the top, not ours
        ("microgpt__x", "import zmqtools, workers", None),
        ("microgpt__value", "from microgpt.model import gpt", "imports microgpt.model.gpt"),
        ("microgpt__value", "from . import model", "imports microgpt.model"),
        ("microgpt__value", "from .model import gpt", "imports microgpt.model.gpt"),
        ("microgpt__model", "import numpy as np", "imports numpy"),
        ("microgpt__model", "from numpy.typing import NDArray", "imports numpy.typing.NDArray"),
        ("microgpt__model", "from .engine import base", "imports microgpt.engine.base"),
        (
            "microgpt__model",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy",
            "microgpt.model:3 imports numpy",
        ),
        ("coordinator__x", "import worker.state", "coordinator.x:1 imports worker.state"),
        ("coordinator__x", "from microgpt import engine", "imports microgpt.engine"),
        (
            "coordinator__x",
            "from microgpt.engine.base import Vector",
            "imports microgpt.engine.base",
        ),
        ("coordinator__x", "import importlib\nimportlib.import_module('worker')", "imports worker"),
        ("coordinator__x", "import zmq, numpy, microgpt.protocol.messages", None),
        ("coordinator__core__state", "import zmq", "imports zmq"),
        ("coordinator__core__state", "from time import monotonic", "imports time.monotonic"),
        ("worker__x", "import coordinator", "worker.x:1 imports coordinator"),
        ("worker__x", "import zmq\nimport microgpt.engine", None),
        ("worker__state", "import threading", "imports threading"),
        ("aggregator__x", "import coordinator.net.router, worker.coordinator_link", None),
        ("aggregator__x", "import worker.executor", "aggregator.x:1 imports worker.executor"),
        ("aggregator__x", "import microgpt.engine", "aggregator.x:1 imports microgpt.engine"),
        ("aggregator__crew", "import zmq", "aggregator.crew:1 imports zmq"),
        ("aggregator__state", "import coordinator.net.router", "imports coordinator.net.router"),
        ("worker__x", "import aggregator", "worker.x:1 imports aggregator"),
        ("coordinator__x", "import aggregator.state", "coordinator.x:1 imports aggregator.state"),
        ("lab__x", "from scripts import container", "lab.x:1 imports scripts.container"),
        ("lab__x", "import coordinator, worker, microgpt.engine", None),
        ("worker__x", "from lab import terminal", "worker.x:1 imports lab.terminal"),
        ("coordinator__x", "def f():\n    import lab.tape", "coordinator.x:2 imports lab.tape"),
        ("microgpt__x", "from lab import tape", "microgpt.x:1 imports lab.tape"),
        ("microgpt__model", "from microgpt.value import Value", "imports microgpt.value.Value"),
        ("microgpt__training", "from microgpt import api", "imports microgpt.api"),
        ("microgpt__data__x", "from microgpt.engine import tape", "imports microgpt.engine.tape"),
        ("microgpt__engine__x", "import microgpt.strategies", "imports microgpt.strategies"),
        ("microgpt__strategies__x", "import microgpt.engine", "imports microgpt.engine"),
        ("microgpt__strategies__x", "import socket", "imports socket"),
        ("microgpt__strategies__x", "import zmq", "imports zmq"),
        ("microgpt__strategies__x", "from time import monotonic", "imports time.monotonic"),
        ("microgpt__strategies__x", "from microgpt.protocol import messages", "protocol.messages"),
        ("microgpt__strategies__x", "from microgpt import training, optim, config", None),
        ("microgpt__strategies__x", "from microgpt.support.options import make", None),
        ("microgpt__strategies__x", "from microgpt.support import cli", "microgpt.support.cli"),
        ("coordinator__core__x", "from coordinator.net import router", "imports coordinator.net"),
        ("coordinator__core__x", "import coordinator.run.console", "imports coordinator.run"),
        ("coordinator__core__x", "import microgpt.protocol.messages", None),
        ("coordinator__net__x", "import coordinator.event_loop", "coordinator.event_loop"),
        ("coordinator__net__x", "from coordinator.core.inputs import Peer", None),
        ("microgpt__support__x", "from microgpt import model", "imports microgpt.model"),
        ("microgpt__support__x", "from microgpt.protocol.schema import LISTS", "schema.LISTS"),
        ("microgpt__support__x", "from microgpt import __version__", None),
        ("microgpt__protocol__x", "from microgpt.model import gpt", "imports microgpt.model.gpt"),
        ("microgpt__numerics__x", "import microgpt.optim.adam", "imports microgpt.optim.adam"),
        ("microgpt__x", "import pickle", "imports pickle"),
        ("worker__x", "from pickle import loads", "imports pickle.loads"),
        ("coordinator__x", "import marshal", "imports marshal"),
        ("scripts__x", "import shelve", "imports shelve"),
        ("scripts__x", "__import__('pickle')", "imports pickle"),
        ("microgpt__x", "eval('1')", "names builtins.eval"),
        ("worker__x", "run = exec", "names builtins.exec"),
        ("worker__x", "import builtins as b\nb.eval('1')", "names builtins.eval"),
        ("worker__x", "model.eval()\nengine.exec_(1)\ndef evaluate(): ...", None),
        ("worker__x", "socket.recv_pyobj()", "names socket.recv_pyobj"),
        ("scripts__x", "np.load(f, allow_pickle=True)", "allows pickle"),
        ("scripts__x", "np.load(f, allow_pickle=False)", None),
        ("microgpt__x", "import random\nrandom.gauss(0, 1)", "hidden generator by random.gauss"),
        ("microgpt__x", "import random as r\nr.seed(1)", "hidden generator by random.seed"),
        ("microgpt__x", "from random import choices\nchoices('ab')", "generator by random.choices"),
        ("microgpt__x", "import numpy as np\nnp.random.rand()", "generator by numpy.random.rand"),
        (
            "microgpt__x",
            "from numpy import random\nrandom.rand()",
            "generator by numpy.random.rand",
        ),
        ("microgpt__x", "import random\nrandom.SystemRandom()", "by random.SystemRandom"),
        ("microgpt__x", "import random\nrng = random.Random(1)\nrng.gauss(0, 1)", None),
        ("microgpt__x", "import random\ndef f(rng: random.Random): return rng.random()", None),
        ("microgpt__x", "from random import Random\nRandom(1).random()", None),
        ("microgpt__x", "import time\ntime.time()", "the clock by time.time"),
        ("microgpt__x", "from time import time as now\nnow()", "the clock by time.time"),
        ("microgpt__x", "import datetime as d\nd.datetime.now()", "clock by datetime.datetime.now"),
        (
            "microgpt__x",
            "from datetime import datetime\ndatetime.now()",
            "by datetime.datetime.now",
        ),
        ("microgpt__x", "from datetime import date\ndate.today()", "clock by datetime.date.today"),
        ("microgpt__x", "import time\ntime.monotonic()\ntime.perf_counter()", None),
        ("worker__x", "import time, random\ntime.time()\nrandom.random()", None),
    ],
)
def test_one_breach(module: str, source: str, complaint: str | None) -> None:
    found = complaints(project_of(**{module: source}))
    if complaint is None:
        assert found == []
    else:
        assert any(complaint in line for line in found), found


@pytest.mark.parametrize(
    "heavy", ["zmq", "llvmlite", "numpy", "rich", "click", "requests", "pooch"]
)
@pytest.mark.parametrize("entry", ["sample", "checkpoint"])
def test_lean_scripts_stay_lean(entry: str, heavy: str) -> None:
    lean = "import sys\nimport msgpack\nfrom microgpt.checkpoint.format import load\n"
    assert complaints(project_of(**{f"scripts__{entry}": lean, "microgpt__checkpoint": ""})) == []

    directly = {f"scripts__{entry}": f"{lean}import {heavy}.part", "microgpt__checkpoint": ""}
    [complaint] = complaints(project_of(**directly))
    assert complaint == f"scripts.{entry} needs {heavy}.part through scripts.{entry}:4"

    far = {
        f"scripts__{entry}": lean,
        "microgpt__checkpoint": "from . import records",
        "microgpt__records": f"try:\n    import {heavy}\nexcept ImportError: ...",
    }
    assert f"scripts.{entry} needs {heavy} through microgpt.records:2" in complaints(
        project_of(**far)
    )


def test_lean_scripts_run_the_init_files_of_what_they_import() -> None:
    sources = {
        "scripts__sample": "from microgpt.deep.down import thing",
        "microgpt__deep": "import numpy",
        "microgpt__deep__down": "",
    }
    [complaint] = complaints(project_of(**sources))
    assert complaint == "scripts.sample needs numpy through microgpt.deep:1"


def test_lean_scripts_reach_the_files_beside_them() -> None:
    sources = {"scripts__sample": "import _path", "scripts___path": "import sys, rich"}
    [complaint] = complaints(project_of(**sources))
    assert complaint == "scripts.sample needs rich through scripts._path:1"


def test_lean_scripts_may_import_later_and_for_types() -> None:
    sources = {
        "scripts__sample": "from microgpt import a",
        "microgpt__a": "def f():\n    import numpy",
        "microgpt": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy",
    }
    assert complaints(project_of(**sources)) == []
    sources["microgpt"] += "\nelse:\n    import numpy"
    [complaint] = complaints(project_of(**sources))
    assert complaint == "scripts.sample needs numpy through microgpt:5"


def test_the_coordinator_reaches_no_engine_by_detours() -> None:
    sources = {
        "coordinator__x": "import microgpt.training",
        "microgpt__training": "from microgpt.engine import make_engine",
        "microgpt__engine": "",
    }
    assert "coordinator.x runs microgpt.engine when it is imported" in complaints(
        project_of(**sources)
    )


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ({"lab__a": "from . import b", "lab__b": "import lab.a"}, "lab.a -> lab.b -> lab.a"),
        (
            {"lab__a": "import lab.b.c", "lab__b": "from lab.a import x", "lab__b__c": ""},
            "lab.a -> lab.b -> lab.a",
        ),
        (
            {
                "lab__a": "from lab.b import x",
                "lab__b": "def f():\n    from lab import c",
                "lab__c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lab.a",
            },
            "lab.a -> lab.b -> lab.c -> lab.a",
        ),
        ({"lab": "from lab.a import x", "lab__a": "from lab import y"}, "lab -> lab.a -> lab"),
    ],
    ids=["two", "through a package", "later and for types", "a package and its module"],
)
def test_an_import_circle_is_reported(sources: dict[str, str], names: str) -> None:
    project = project_of(**sources)
    found = circle(project)
    start = names.partition(" ")[0]
    turned = found[found.index(start) : -1] + found[: found.index(start)] + [start]
    assert " -> ".join(turned) == names
    [complaint] = complaints(project)
    assert complaint == f"an import circle: {' -> '.join(found)}"
    assert set(imported_modules(project, found[0])) <= project.keys()  # which comes to an end


def test_a_module_in_its_package_is_no_circle() -> None:
    sources = {"lab": "from lab import a", "lab__a": "import lab.b", "lab__b": "from . import c"}
    assert circle(project_of(**sources, lab__c="")) == []


#: What takes longer to load than all of ours, and who has no need of it before a run begins.
HEAVY = {"llvmlite", "asyncio", "requests", "rich", "numpy"}


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("coordinator.__main__", {"numpy"}),
        ("worker.__main__", {"numpy"}),
        ("lab.launch.train", set()),
        ("lab.command_line", set()),
    ],
)
def test_what_every_process_loads_is_little(module: str, needed: set[str]) -> None:
    script = f"import sys, {module}; print(*{HEAVY} & {{*sys.modules}})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == needed

"""Who may import whom, and what is called nowhere: read with ``ast``, nothing is imported.

The checker is a function from source texts to complaints, so that each rule is also tested on a
text that breaks it; files that do not exist yet are simply not there to complain about.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("microgpt", "coordinator", "worker", "lab", "scripts")

#: Nobody in the first place (a module with everything under it) imports anything in the second.
FORBIDDEN = [
    ("microgpt", ("coordinator", "worker", "lab", "scripts", "zmq")),
    ("coordinator", ("worker", "lab", "scripts", "microgpt.engine", "microgpt.value")),
    ("worker", ("coordinator", "lab", "scripts")),
    ("microgpt.value", PACKAGES),
    ("microgpt.model", ("microgpt.engine", "numpy", "numba", "socket")),
    *(
        (f"microgpt.{leaf}", ("microgpt.engine", "numba"))
        for leaf in (
            "tokenizer",
            "parameters",
            "optim.reduction",
            "optim.adam",
            "sampling",
            "protocol.messages",
        )
    ),
    *(
        (pure, ("zmq", "socket", "threading", "time", "os", "subprocess"))
        for pure in ("coordinator.core", "worker.state", "microgpt.strategies")
    ),
    ("microgpt.strategies", ("microgpt.engine", "microgpt.protocol")),
    *((package, ("pickle", "marshal", "shelve", "dill", "cloudpickle")) for package in PACKAGES),
]
#: Entry points that run with nothing but msgpack installed beside Python.
LEAN = ("scripts.sample", "scripts.checkpoint")
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


@dataclass(frozen=True)
class Import:
    """``name`` is the full dotted name; ``at_import_time`` unless it stands in a function."""

    name: str
    line: int
    at_import_time: bool


class Module:
    """What the text of one module imports and names."""

    def __init__(self, name: str, source: str, is_package: bool = False) -> None:
        self.name = name
        self.package = name if is_package else name.rpartition(".")[0]
        self.imports: list[Import] = []
        self.names: list[tuple[str, int]] = []
        self.calls_with_keywords: list[tuple[str, int]] = []
        self._aliases: dict[str, str] = {}
        tree = ast.parse(source)
        self._read_imports(tree, at_import_time=True)
        self._read_names(tree)

    def _read_imports(self, node: ast.AST, at_import_time: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inside = at_import_time
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inside = False
            elif isinstance(child, ast.If) and _is_type_checking(child.test):
                for statement in child.body:
                    self._add(statement, at_import_time=False)
                    self._read_imports(statement, at_import_time=False)
                for statement in child.orelse:
                    self._add(statement, at_import_time)
                    self._read_imports(statement, at_import_time)
                continue
            self._add(child, inside)
            self._read_imports(child, inside)

    def _add(self, node: ast.AST, at_import_time: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imports.append(Import(alias.name, node.lineno, at_import_time))
                bound = alias.asname or alias.name.partition(".")[0]
                self._aliases[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = self.package.split(".")
                above = parts[: len(parts) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                name = base if alias.name == "*" else f"{base}.{alias.name}"
                self.imports.append(Import(name, node.lineno, at_import_time))
                self._aliases[alias.asname or alias.name] = name
        elif isinstance(node, ast.Call) and node.args:
            called, first = ast.unparse(node.func), node.args[0]
            by_name = called.endswith(("import_module", "__import__"))
            if by_name and isinstance(first, ast.Constant) and isinstance(first.value, str):
                self.imports.append(Import(first.value, node.lineno, at_import_time))

    def _read_names(self, tree: ast.AST) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
                self.names.append((self._resolve(node), node.lineno))
            if isinstance(node, ast.keyword) and not (
                isinstance(node.value, ast.Constant) and node.value.value is False
            ):
                self.calls_with_keywords.append((node.arg or "**", node.value.lineno))

    def _resolve(self, node: ast.expr) -> str:
        """The dotted name, with what an import has renamed spelled out; ``?`` for an expression."""
        if isinstance(node, ast.Attribute):
            return f"{self._resolve(node.value)}.{node.attr}"
        if isinstance(node, ast.Name):
            builtin = f"builtins.{node.id}" if node.id in dir(builtins) else node.id
            return self._aliases.get(node.id, builtin)
        return "?"


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


Project = Mapping[str, Module]


def imported_modules(project: Project, module: str) -> Iterator[str]:
    """Modules of the project that importing ``module`` runs: it, its packages, and theirs."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        # `from a import b` may mean module a.b or a thing in a: all that exist count.
        for prefix in _prefixes(name):
            if prefix in project and prefix not in seen:
                seen.add(prefix)
                yield prefix
                waiting += [
                    neighbour(project, prefix, imported.name)
                    for imported in project[prefix].imports
                    if imported.at_import_time
                ]


def neighbour(project: Project, importer: str, name: str) -> str:
    """``import helper`` in a script means the file beside it, where there is one."""
    beside = f"scripts.{name}"
    is_there = f"scripts.{name.partition('.')[0]}" in project
    return beside if within(importer, "scripts") and is_there else name


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


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
    return found


def _forbidden_imports(module: Module) -> Iterator[str]:
    for place, names in FORBIDDEN:
        if within(module.name, place):
            for imported in module.imports:
                if any(within(imported.name, name) for name in names):
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
        if within(start, "coordinator"):
            for name in imported_modules(project, start):
                if within(name, "microgpt.engine") or within(name, "worker"):
                    yield f"{start} runs {name} when it is imported"


def read_project() -> dict[str, Module]:
    modules = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return modules


def project_of(**sources: str) -> dict[str, Module]:
    """Modules from texts; ``a__b`` stands for ``a.b``, and whatever has modules is a package."""
    names = {name.replace("__", "."): source for name, source in sources.items()}
    packages = {prefix for name in names for prefix in _prefixes(name)[:-1]}
    return {
        name: Module(name, names.get(name, ""), is_package=name in packages)
        for name in sorted(packages | names.keys())
    }


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
    for place, _ in FORBIDDEN:
        package = place.partition(".")[0]
        if f"{package}.__main__" in project or package == "microgpt":
            assert place in project or any(within(name, place) for name in project)
    if (ROOT / "scripts" / "train.py").exists():
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


@pytest.mark.parametrize("heavy", ["zmq", "numba", "numpy", "rich", "click", "requests", "pooch"])
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


def test_import_cycles_are_no_trouble() -> None:
    sources = {"microgpt__a": "from . import b", "microgpt__b": "from . import a"}
    assert set(imported_modules(project_of(**sources), "microgpt.a")) == {
        "microgpt",
        "microgpt.a",
        "microgpt.b",
    }

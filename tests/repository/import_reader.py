"""What the project's modules import and name, read with ``ast``: nothing is imported."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("microgpt", "coordinator", "worker", "aggregator", "lab", "scripts")


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


def circle(project: Project) -> list[str]:
    """Modules that import each other in this order, the first one again at the end; [] if none do.

    Counted are imports in functions and for types alone, too, and that importing ``a.b`` runs
    ``a``; not that a module stands in its own package.
    """
    graph = {}
    for module in project.values():
        runs = {
            prefix
            for imported in module.imports
            for prefix in _prefixes(neighbour(project, module.name, imported.name))
            if prefix in project and not within(module.name, prefix)
        }
        by_name = {
            deepest
            for imported in module.imports
            if (deepest := _deepest(project, neighbour(project, module.name, imported.name)))
        }
        graph[module.name] = (runs | by_name) - {module.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib lists them from the imported one on
    return []


def _deepest(project: Project, name: str) -> str | None:
    """The module of the project that a dotted name lies in."""
    return next((prefix for prefix in reversed(_prefixes(name)) if prefix in project), None)

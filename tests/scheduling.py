"""Which process of a parallel test run takes which tests."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

#: Files whose tests share what takes long to make: all of one go to the same process, and first.
TOGETHER = (
    "tests/system/test_docker.py",
    "tests/system/test_serving.py",
    "tests/repository/test_imports.py",
    "tests/lab/page/test_hostile_viewers.py",
    "tests/lab/page/test_past.py",
    "tests/lab/page/test_anatomy_route.py",
    "tests/lab/page/test_control_route.py",
    "tests/lab/export/test_exporting.py",
    "tests/system/test_strategies.py",
)
BROWSER = "/test_browser_"  # in the name of files whose tests share a browser


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # it tells no types
    """One test at a time to whoever is free, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        """The name of the group of a test."""
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER or BROWSER in file else nodeid

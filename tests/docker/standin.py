"""Base images for the tests of Docker where nothing can be pulled: recipe and building.

The recipe copies the Python that runs the tests, the libraries it is linked to and the few commands
that a Dockerfile's RUN lines use into a file system, and imports that: enough of ``python:slim`` to
build the project's Dockerfile. A second image has a folder of wheels besides, as locked, and pip
told to look there and nowhere else.

Both are kept under a name that holds a digest of the recipe, and made anew when it changes.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "microgpt-test-base"
BASE = Path(sys.base_prefix)
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
COMMANDS = (
    "sh", "ls", "cat", "cp", "rm", "mv", "ln", "mkdir", "chmod", "chown", "find", "id", "env",
    "sleep", "test", "true", "stat",
)  # fmt: skip
#: What wheels may expect of a Linux system (manylinux), beyond what Python is linked to.
LIBRARIES = (
    "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1",
    "libresolv.so.2", "libstdc++.so.6", "libgcc_s.so.1", "libz.so.1",
)  # fmt: skip
LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "__pycache__", "site-packages")
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
PIP_CONF = "[global]\nno-index = true\nfind-links = /wheels\n"


def run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints. Raises RuntimeError with its complaints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} fails:\n{done.stdout}{done.stderr}")
    return done.stdout


def images() -> tuple[str, str]:
    """The names of the base image and of the image to install packages in; made if missing."""
    recipe = Path(__file__).read_bytes()
    lock = runtime_lock().encode()
    about = f"{sys.version} {BASE} {platform.libc_ver()} {os.getuid()}".encode()
    base = f"{NAME}:{hashlib.sha256(recipe + about).hexdigest()[:12]}"
    build = f"{NAME}-wheels:{hashlib.sha256(recipe + about + lock).hexdigest()[:12]}"
    with taking_turns():
        if not exists(base):
            make_base(base)
        if not exists(build):
            make_build(build, base, lock.decode())
    return base, build


def exists(image: str) -> bool:
    """Whether Docker has this image."""
    return bool(run("docker", "image", "ls", "--quiet", image).strip())


@contextmanager
def taking_turns() -> Iterator[None]:
    """Of test runs at once, one makes the images and the others wait for them."""
    path = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}.lock"
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def runtime_lock() -> str:
    """The locked packages that the image installs."""
    return run(sys.executable, str(ROOT / "scripts" / "runtime_requirements.py"))


# --- the base image ------------------------------------------------------------------------------


def make_base(name: str) -> None:
    """A file system with Python, as ``python:slim`` has it in /usr/local."""
    with tempfile.TemporaryDirectory(prefix="microgpt-base-") as directory:
        root = Path(directory) / "root"
        tree(root)
        archive = Path(directory) / "root.tar"
        with tarfile.open(archive, "w") as tar:
            for path in sorted(root.iterdir()):
                tar.add(path, path.name, filter=owned_by_root)
        run("docker", "import", "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin",
            str(archive), name)  # fmt: skip


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """As in any image, whoever runs the tests."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def tree(root: Path) -> None:
    """Fill a directory with the file system."""
    for folder in ("usr/bin", "usr/lib", "usr/local/bin", "usr/local/lib", "etc", "tmp", "root"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for link, target in {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib"}.items():
        (root / link).symlink_to(target)
    for path, text in TEXTS.items():
        (root / path).write_text(text)
    copy_python(root / "usr/local")
    commands = [Path(which(name)) for name in COMMANDS]
    for command in commands:
        shutil.copy(command, root / "usr/bin" / command.name)
    extensions = (root / "usr/local").rglob("*.so")
    for name, library in linked([*commands, root / "usr/local/bin/python3", *extensions]).items():
        shutil.copy(library, root / "usr/lib" / name)
    run(which("ldconfig"), "-r", str(root))


def which(name: str) -> str:
    """Where the system has a command. Raises RuntimeError."""
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise RuntimeError(f"the stand-in for the base image needs the command {name}")
    return path


def copy_python(target: Path) -> None:
    """Interpreter, standard library and pip, without what has no use in a container."""
    library = target / "lib" / VERSION
    shutil.copytree(BASE / "lib" / VERSION, library, symlinks=True, ignore=_left_out)
    pips = sorted((BASE / "lib" / VERSION / "site-packages").glob("pip*"))
    if not (BASE / "lib" / VERSION / "site-packages" / "pip").is_dir():
        raise RuntimeError(f"{BASE} has no pip: python -m ensurepip")
    for found in pips:
        if found.name == "pip" or found.suffix == ".dist-info":
            shutil.copytree(found, library / "site-packages" / found.name)
    executable = BASE / "bin" / VERSION
    shutil.copy(executable, target / "bin" / VERSION)
    for link in ("python3", "python"):
        (target / "bin" / link).symlink_to(VERSION)


def _left_out(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if name in LEFT_OUT or name.startswith("config-")}


def linked(programs: Iterable[Path]) -> dict[str, str]:
    """Names and paths of the libraries and loaders of programs, and of manylinux's libraries."""
    found = {name: path for name in LIBRARIES if (path := loaded(name))}
    for program in programs:
        done = subprocess.run([which("ldd"), str(program)], capture_output=True, text=True)
        found |= {Path(path).name: path for path in re.findall(r"(/\S+) \(0x", done.stdout)}
    return found


def loaded(library: str) -> str | None:
    """Where the system has a library, found by loading it."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return None
    maps = Path("/proc/self/maps").read_text()
    paths = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/" in line}
    # The map has the file's own name, which may end in a longer version.
    return next((path for path in paths if Path(path).name.startswith(library)), None)


# --- the image with wheels -----------------------------------------------------------------------


def make_build(name: str, base: str, lock: str) -> None:
    """The base image with the locked wheels in /wheels, which pip is told to use."""
    with tempfile.TemporaryDirectory(prefix="microgpt-wheels-") as directory:
        folder = Path(directory)
        (folder / "runtime.lock").write_text(lock)
        python = str(BASE / "bin" / VERSION)
        run(python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary", ":all:", "--require-hashes",
            "-r", "runtime.lock", "-d", "wheels", cwd=folder)  # fmt: skip
        (folder / "pip.conf").write_text(PIP_CONF)
        for path in folder.rglob("*"):
            path.chmod(path.stat().st_mode | stat.S_IRGRP | stat.S_IROTH)
        dockerfile = f"FROM {base}\nCOPY wheels /wheels\nCOPY pip.conf /etc/pip.conf\n"
        (folder / "Dockerfile").write_text(dockerfile)
        run("docker", "build", "--quiet", "--tag", name, str(folder))


if __name__ == "__main__":
    print("\n".join(images()))

"""CURVE with a list of known workers.

Loads asyncio, as ``zmq.auth`` does: to be imported where a run has keys.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from coordinator.net.allow_list import AllowList
from microgpt.protocol.keys import (
    ALLOWED,
    COORDINATOR,
    PUBLIC,
    SECRET,
    WORKER,
    alone,
    check_private,
    has_coordinator,
    make_folder,
    make_pair,
    place,
)
from microgpt.support.cli import UserError

#: Of a folder, and of a key in a secret of Kubernetes.
BUNDLE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def make_keys(directory: Path) -> None:
    """Make what is missing: the coordinator's pair, and one pair for workers of this folder.

    The coordinator's public key appears last: whoever sees it finds the rest. Of several processes
    that do this at once, one makes the keys. Raises UserError.
    """
    try:
        if has_coordinator(directory):
            return  # the folder may be read-only, such as secrets of a swarm
        make_folder(directory)
        with alone(directory):
            if not has_coordinator(directory):
                (directory / ALLOWED).mkdir(exist_ok=True)
                make_pair(directory, WORKER, zmq.auth.create_certificates)
                let_in(directory, directory / (WORKER + PUBLIC))
                make_pair(directory, COORDINATOR, zmq.auth.create_certificates)
    except OSError as error:
        raise UserError(f"cannot make keys in {directory}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"a file in {directory} holds no key: {error}") from error


def let_in(directory: Path, public_file: Path, name: str = WORKER) -> None:
    """Put a copy of a worker's public key on the list, unless it is there. Raises OSError."""
    allowed = directory / ALLOWED
    if AllowList(allowed).callback("", zmq.auth.load_certificate(public_file)[0]):
        return
    number, target = 1, allowed / (name + PUBLIC)
    while target.exists():  # somebody else's, who has been let in before
        number += 1
        target = allowed / f"{name}-{number}{PUBLIC}"
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        place(Path(shutil.copy(public_file, temporary)), target, 0o644)


def make_bundle(directory: Path, name: str) -> Path:
    """Make a folder ``name`` in ``directory``: all that workers of one kind or host need.

    It has a pair of its own, which is let in as ``name``, so that it can be locked out alone.
    Returns the folder. Raises UserError.
    """
    if name == ALLOWED or not BUNDLE_NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name for keys: small letters, digits and -, not {ALLOWED}")
    make_keys(directory)
    folder = directory / name
    try:
        with alone(directory):
            make_folder(folder)
            make_pair(folder, WORKER, zmq.auth.create_certificates)
            let_in(directory, folder / (WORKER + PUBLIC), name)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                known = Path(shutil.copy(directory / (COORDINATOR + PUBLIC), temporary))
                place(known, folder / (COORDINATOR + PUBLIC), 0o644)
    except OSError as error:
        raise UserError(f"cannot make keys in {folder}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"a file in {folder} holds no key: {error}") from error
    return folder


def give_to_workers(directory: Path, folder: Path) -> None:
    """Copy into a folder of workers what they need of the coordinator's, never its private key.

    That is the pair of workers, where it is, and the coordinator's public key, which comes last as
    in ``make_keys``. Raises UserError.
    """
    try:
        with alone(folder):
            for name, mode in ((WORKER + SECRET, 0o600), (WORKER + PUBLIC, 0o644),
                               (COORDINATOR + PUBLIC, 0o644)):  # fmt: skip
                source, target = directory / name, folder / name
                if not source.exists():
                    continue
                if target.exists() and target.read_bytes() == source.read_bytes():
                    continue
                with tempfile.TemporaryDirectory(dir=folder) as temporary:
                    place(Path(shutil.copy(source, temporary)), target, mode)
    except OSError as error:
        raise UserError(f"cannot give workers their keys in {folder}: {error.strerror}") from error


class Guard:
    """CURVE for a ROUTER socket, with the keys of a folder; ``allowed`` are those let in.

    Raises UserError for unusable keys.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], directory: Path) -> None:
        make_keys(directory)
        secret_file = directory / (COORDINATOR + SECRET)
        check_private(secret_file)
        try:
            public, secret = zmq.auth.load_certificate(secret_file)
        except (OSError, ValueError) as error:
            raise UserError(f"{secret_file} holds no key: {error}") from error
        if secret is None:
            raise UserError(f"{secret_file} holds no private key")
        self._public, self._secret = public, secret
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self.allowed = AllowList(directory / ALLOWED)
        self._authenticator.configure_curve_callback("*", self.allowed)
        self.allowed.watch()

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Let only listed workers connect. Before binding."""
        socket.curve_publickey = self._public
        socket.curve_secretkey = self._secret
        socket.curve_server = True

    def close(self) -> None:
        """Stop authenticating."""
        self.allowed.close()
        self._authenticator.stop()

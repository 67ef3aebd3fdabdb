"""CURVE with a list of known workers.

Loads asyncio, as ``zmq.auth`` does: to be imported where a run has keys.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

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


def let_in(directory: Path, public_file: Path) -> None:
    """Put a copy of a worker's public key on the list, unless it is there. Raises OSError."""
    allowed = directory / ALLOWED
    if AllowList(allowed).callback("", zmq.auth.load_certificate(public_file)[0]):
        return
    number, target = 1, allowed / (WORKER + PUBLIC)
    while target.exists():  # somebody else's, who has been let in before
        number += 1
        target = allowed / f"{WORKER}-{number}{PUBLIC}"
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        place(Path(shutil.copy(public_file, temporary)), target, 0o644)


class AllowList:
    """The public keys in a folder, read for every connection: a new file counts at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a worker with this public key (Z85 text or 32 bytes) may connect."""
        wanted = key if len(key) == 40 else zmq.utils.z85.encode(key)
        for path in self._directory.glob("*" + PUBLIC):
            try:
                if zmq.auth.load_certificate(path)[0] == wanted:
                    return True
            except (OSError, ValueError):
                continue  # being copied, or no key at all
        return False


class Guard:
    """CURVE for a ROUTER socket, with the keys of a folder. Raises UserError for unusable keys."""

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
        self._authenticator.configure_curve_callback("*", AllowList(directory / ALLOWED))

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Let only listed workers connect. Before binding."""
        socket.curve_publickey = self._public
        socket.curve_secretkey = self._secret
        socket.curve_server = True

    def close(self) -> None:
        """Stop authenticating."""
        self._authenticator.stop()

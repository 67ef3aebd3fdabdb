"""The worker's CURVE keys: its own pair, and the coordinator's public key to know it by."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import zmq

from microgpt.protocol.greeting import differs
from microgpt.protocol.keys import (
    COORDINATOR,
    PUBLIC,
    SECRET,
    WORKER,
    alone,
    check_private,
    has_coordinator,
    make_pair,
)
from microgpt.support.cli import UserError, say
from worker.state import UNHEARD_SECONDS

KEY_POLL_SECONDS = 0.2


class NoKeysError(Exception):
    """No coordinator has put its key into the folder in time."""


@dataclass(frozen=True)
class Keys:
    """Z85 texts, and the file that the coordinator's list must have a copy of."""

    public: bytes
    secret: bytes
    coordinator: bytes
    public_file: Path

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Encrypt, prove who we are, and accept no other coordinator. Before connecting."""
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret
        socket.curve_serverkey = self.coordinator


def load_keys(directory: Path) -> Keys:
    """The keys in a folder; the worker's own pair is made where it is missing. Raises UserError."""
    import zmq.auth  # takes time, and most runs have no keys

    public_file, secret_file = (directory / (WORKER + end) for end in (PUBLIC, SECRET))
    try:
        if not secret_file.exists():
            with alone(directory):
                make_pair(directory, WORKER, zmq.auth.create_certificates)
        check_private(secret_file)
        own_public, own_secret = zmq.auth.load_certificate(secret_file)
        coordinator, _ = zmq.auth.load_certificate(directory / (COORDINATOR + PUBLIC))
    except OSError as error:
        raise UserError(f"cannot use the keys in {directory}: {error}") from error
    except ValueError as error:
        raise UserError(f"a file in {directory} holds no key: {error}") from error
    if own_secret is None:
        raise UserError(f"{secret_file} holds no private key")
    return Keys(own_public, own_secret, coordinator, public_file)


def wait_for_keys(directory: Path, patience: float) -> Keys:
    """The keys in the folder, once the coordinator has made or somebody has copied its own.

    Raises UserError, and NoKeysError if they do not come within ``patience`` seconds; 0 means for
    ever.
    """
    began, told = time.monotonic(), False
    if not has_coordinator(directory):
        say(f"waiting for {directory}/coordinator.key")
    while not has_coordinator(directory):
        waited = time.monotonic() - began
        if patience and waited > patience:
            raise NoKeysError(f"no coordinator has put its key into {directory}")
        if waited > UNHEARD_SECONDS and not told:
            told = True
            text = "a coordinator that is started with --curve makes it in its folder"
            print(f"there is no {directory}/coordinator.key yet: {text}; copy it here", flush=True)
        time.sleep(KEY_POLL_SECONDS)
    return load_keys(directory)


def handshake_failure(event: int, value: int, keys: Keys | None, address: str, who: str) -> str:
    """Why our keys cannot make a connection to the coordinator at ``address``, or "".

    ``event`` and ``value`` are news of a socket's monitor; ``who``: what our key stands for.
    """
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and keys is not None:
        copied = f"copy {keys.public_file} into the folder workers/ of its keys"
        return f"the coordinator does not know this {who}: {copied}"
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH or (
        event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        and differs(address, encrypted=keys is not None)
    ):
        wants = "wants keys: give" if keys is None else "has no keys: leave out"
        return f"the coordinator {wants} --curve DIR"
    return ""

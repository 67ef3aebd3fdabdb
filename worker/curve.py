"""The worker's CURVE keys: its own pair, and the coordinator's public key to know it by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zmq

from microgpt.protocol.keys import (
    COORDINATOR,
    PUBLIC,
    SECRET,
    WORKER,
    alone,
    check_private,
    make_pair,
)
from microgpt.support.cli import UserError


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

"""Which addresses may be listened at without keys: those that only this machine can reach."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from microgpt.protocol.addresses import check_address
from microgpt.support.cli import UserError


def is_local(bind: str) -> bool:
    """Whether only this machine can reach the address."""
    if bind.startswith(("ipc://", "inproc://")):
        return True
    try:
        host = urlsplit(bind).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # "*", or the name of a host or of an interface


def require_safe_bind(
    bind: str, curve: Path | None, insecure: bool, *, keys: str = "--curve"
) -> None:
    """Raise UserError if this is no address to listen at.

    Or if strangers on the network could reach us there without a key; ``keys``: the flag for them.
    """
    try:
        check_address(bind, binding=True)
    except ValueError as error:
        raise UserError(f"--bind {error}") from error
    if not is_local(bind) and curve is None and not insecure:
        raise UserError(
            f"--bind {bind} can be reached from other machines and nothing is encrypted: "
            f"give {keys} DIR (keys are made there), or --insecure if the network is trusted"
        )

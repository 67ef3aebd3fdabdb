"""What the system's limit on open files leaves for connections."""

from __future__ import annotations

import resource

from microgpt.support.cli import say

MAX_CONNECTIONS = 4096  # a further one is closed again
FEW_CONNECTIONS = 64  # fewer are worth a warning
OWN_FILES = 100  # descriptors that strangers' connections must leave for checkpoints and the like


def connection_limit() -> int:
    """How many connections may be open: the system's limit on files is for more than them.

    Says so where that leaves few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OWN_FILES
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    limit = max(1, files - OWN_FILES)
    if limit < FEW_CONNECTIONS:
        text = (
            f"the limit of {files} open files (ulimit -n) leaves {limit} connection(s) for workers "
            f"and others; with {wanted} there would be {MAX_CONNECTIONS}"
        )
        say(f"warning: {text}", error=True)
    return limit

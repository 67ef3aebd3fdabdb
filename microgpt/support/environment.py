"""The environment variables ``MICROGPT_...``: which there are, and what a misspelt one may mean."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

PREFIX = "MICROGPT_"
#: Set for our children: what is to be said of the variables has been said.
CHECKED = f"{PREFIX}VARIABLES_CHECKED"

#: Of any program's options; each program also knows those of its own.
OPTIONS = (
    "ADVERTISE", "AGGREGATE", "AGGREGATORS", "BATCH_SIZE", "BETA1", "BETA2", "BIND", "BLOCK_SIZE",
    "BYZANTINE", "CHECKPOINT_EVERY", "COMPRESS", "CONNECT", "CONTROL", "COORDINATOR",
    "CPUS_PER_WORKER", "CURVE", "CURVE_BELOW", "DATA", "DRY_RUN", "ENGINE", "EPS",
    "ERROR_FEEDBACK", "EVAL_EVERY", "EVENTS", "EVENTS_LIMIT", "FAIL", "INNER_OPTIMIZER",
    "INSECURE", "KEEP_BEST", "KEEP_EVERY", "KEEP_LAST", "LAUNCHER", "LAUNCHER_OPTION",
    "LEARNING_RATE", "LINGER", "LINK", "MINUTES", "NAME", "N_EMBD", "N_HEAD", "N_LAYER",
    "ON_FAILURE", "OUTER_OPTIMIZER", "PAGE", "PAGE_HOST", "PAGE_PORT", "PAGE_TOKEN", "PATIENCE",
    "QUIET", "RAY_ADDRESS", "REPLICAS", "RESUME", "RUN_DIR", "SCHEDULES", "SEED", "SHARD_BY",
    "SHARD_SIZE", "SLOW", "SNAPSHOT_EVERY", "STEPS", "STEP_TIMES", "STRATEGY", "STRATEGY_OPTION",
    "TENSORBOARD", "TRACKIO", "TRUST", "VALIDATION_FRACTION", "VERIFY_FRACTION", "WANDB",
    "WORKERS", "WORKER_TIMEOUT",
)  # fmt: skip
#: Of caches, containers and tests.
OTHERS = (
    "BENCH_TIMES", "CACHE_DIR", "COMPILED_DIR", "COORDINATOR_MEMORY", "DATA_DIR", "GID", "IMAGE",
    "KEYS", "NAMES_URL", "PAGE_MEMORY", "PAGE_PUBLISH", "PUBLISH", "RUN", "TEST_BASE_IMAGE",
    "UID", "WORKER_CURVE", "WORKER_KEYS", "WORKER_MEMORY",
)  # fmt: skip
KNOWN = frozenset(PREFIX + name for name in (*OPTIONS, *OTHERS))


def unknown(names: Collection[str], own: Collection[str] = ()) -> Iterator[str]:
    """A line for each of these variables that no program of ours reads.

    ``own``: those that this program reads, which may be more than are known here.
    """
    known = sorted(KNOWN | set(own))
    for name in sorted(names):
        if not name.startswith(PREFIX) or name in known or name == CHECKED:
            continue
        from difflib import get_close_matches  # takes a moment, and is hardly ever needed

        ends = [each.removeprefix(PREFIX) for each in known]
        nearest = get_close_matches(name.removeprefix(PREFIX), ends, 1)
        hint = f": is {PREFIX}{nearest[0]} meant?" if nearest else ""
        yield f"there is no variable {name}, it changes nothing{hint}"


def to_warn_of(own: Collection[str] = ()) -> list[str]:
    """The lines about this process's environment; none if its parent has said them."""
    if CHECKED in os.environ:
        return []
    os.environ[CHECKED] = "1"
    return list(unknown(os.environ, own))

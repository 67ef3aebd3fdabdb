"""What a platform computes, as far as it decides the bits of a run. Needs Python alone."""

from __future__ import annotations

import hashlib
import math


def libm_sha256() -> str:
    """Digest of what this process's C library returns for ``exp``, ``log`` and powers.

    Equal digests are no proof that all results are equal, different ones that some are not. The
    results depend on the library's version and on the processor that it finds.
    """
    points = [0.001 + 0.37 * i for i in range(2_000)]
    digest = hashlib.sha256()
    for x in points:
        for result in (math.exp(x % 50), math.log(x), x**-1.0, x**-0.5, x**0.5, x**2.0, x**-1.5):
            digest.update(result.hex().encode())
    return digest.hexdigest()

"""``diloco``: local steps of AdamW, and Nesterov momentum on what they have come to.

Douillard et al. 2023, "DiLoCo: Distributed Low-Communication Training of Language Models"
(arXiv 2311.08105):

    theta_i <- AdamW(theta_i, g_i), H times, from theta_i = theta
    Delta = mean of (theta - theta_i);  theta <- Nesterov(theta, Delta)

Outer rate 0.7 and momentum 0.9 as in the paper, which finds Nesterov best of all it tried. Its
H = 500 is for runs of 88,000 steps of large models; with a thousand batches of names there would
be two rounds, in which momentum means nothing. ``steps`` = 8 gives more than a hundred. The inner
optimizer's state stays with its replica, as in the paper. The bits are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from microgpt.strategies.local_sgd import LocalSGD


@dataclass(frozen=True)
class DiLoCo(LocalSGD):
    """``local-sgd`` with another outer optimizer; ``steps`` are the paper's H."""

    outer: ClassVar[str] = "nesterov:learning_rate=0.7,momentum=0.9"

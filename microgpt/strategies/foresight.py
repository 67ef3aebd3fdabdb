"""What a strategy says of the round that comes next, before the results of this one are there."""

from __future__ import annotations

from collections.abc import Callable

from microgpt.strategies.asking import ask, called
from microgpt.strategies.base import Round, Strategy, StrategyError

#: Gives the round after a round, or None if it is not known.
Following = Callable[[Round], Round | None]


def following(strategy: Strategy) -> Following | None:
    """What foretells the strategy's rounds, unless a subclass of it opens rounds of its own."""
    owners = [
        next((kind for kind in type(strategy).__mro__ if name in vars(kind)), None)
        for name in ("open", "following")
    ]
    found: Following | None = getattr(strategy, "following", None)
    return found if owners[0] is owners[1] else None


def foretold(strategy: Strategy, follows: Following, round: Round) -> Round | None:
    """The round after a round. Raises StrategyError if what the strategy says cannot be."""
    told = ask(strategy, "following", lambda: follows(round))
    if told is None:
        return None
    if not isinstance(told, Round) or told.version != round.version + 1 or told.replicas:
        what = f"following gives {told!r}, no round without replicas after {round!r}"
        raise StrategyError(f"{called(strategy)}: {what}")
    return told

"""Whether a schedule's record leads to the same bits again, as strategies promise."""

from __future__ import annotations

from lab.replay.player import Training, play
from lab.replay.record import ReplayError, legs, read
from lab.simulation.arithmetic import same_state
from lab.simulation.world import World


def what_differs(world: World) -> str:
    """The first difference between a run that is over and its replay; "" if there is none."""
    quiet, saved = world.reference_run, world.disk.newest()
    start = state = world.reference_run.states[0]
    training = Training(quiet.config, quiet.corpus, quiet.calculate.engine(), quiet.strategy)
    recorded = {line["step"]: line for line in world.metrics}
    try:
        way = legs(read(world.events.numbered()), exact=training.exact)
        for state in play(training, way, start):
            line = recorded.get(state.step)
            if line is not None and line["loss"] != state.losses[-1]:
                return f"step {state.step} has another loss in the replay of the record"
    except ReplayError as error:
        return f"the record cannot be replayed: {error}"
    if saved is None or not same_state(saved, state):
        return "the replay of the record ends with other bits"
    return ""

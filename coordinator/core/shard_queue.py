"""The shards of a round that somebody must still be given, in their order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping

from microgpt.optim.reduction import Shard


def anything(shard: Shard) -> bool:
    """Every shard suits everybody."""
    return True


class ShardQueue:
    """Each shard stands in it as often as it needs a further worker; at first so many ``times``."""

    def __init__(self, times: Mapping[Shard, int]) -> None:
        self._times = dict(times)
        self._queue = deque([shard for shard, number in times.items() for _ in range(number)])

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._queue)

    def __contains__(self, shard: Shard) -> bool:
        return self._times.get(shard, 0) > 0

    def take(self, place: int) -> Shard:
        """Take out what stands at a place."""
        shard = self._queue[place]
        del self._queue[place]
        self._times[shard] -= 1
        return shard

    def take_first(self, shard: Shard) -> None:
        """Take this shard out once, where it stands first."""
        self._queue.remove(shard)
        self._times[shard] -= 1

    def put(self, shard: Shard, times: int) -> None:
        """Let a shard stand in it so often; what comes back comes first."""
        if times == self._times[shard]:
            return
        for _ in range(self._times[shard], times):
            self._queue.appendleft(shard)
        for _ in range(times, self._times[shard]):
            self._queue.remove(shard)
        self._times[shard] = times

    def audit(self) -> None:
        """Raise AssertionError if the queue and its counts differ."""
        if +Counter(self._times) != Counter(self._queue):
            raise AssertionError("the queue and its counts differ")

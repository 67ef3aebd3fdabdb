"""What becomes of workers on a Ray cluster, decided without Ray."""

from __future__ import annotations

from lab.launch.launchers.base import WorkerStatus
from lab.launch.launchers.ray_pool import (
    LEFT,
    ROOM_SECONDS,
    Action,
    Ask,
    Pool,
    Remove,
    Replace,
    SendHome,
    Start,
    TellRoom,
)
from lab.launch.launchers.ray_worker import NOTHING_SEEN, Report
from lab.launch.restarts import STEADY_SECONDS
from microgpt.support.cli import INTERRUPTED

SIGKILL, SIGINT_EXIT = -9, 130


def report(actor: str = "a", code: int | None = None, output: bytes = b"", seen: int = 0) -> Report:
    return Report(actor, "node-a", ready=True, output=output, seen=seen, code=code)


def running(count: int) -> Pool:
    """So many workers that have reported at time 0, and are asked again."""
    pool = Pool()
    pool.scale(count, 0.0)
    pool.due(0.0)
    for number in range(1, count + 1):
        pool.reported(number, report(f"a{number}"), 0.0)
    pool.due(0.0)
    return pool


def states(pool: Pool) -> list[tuple[str, str, int]]:
    return [(each.name, each.status.value, each.restarts) for each in pool.handles]


def test_workers_are_started_and_asked() -> None:
    pool = Pool()
    assert pool.scale(2, 0.0) == [Start(1), Start(2)]
    assert pool.due(0.0) == [Ask(1, NOTHING_SEEN, False), Ask(2, NOTHING_SEEN, False)]
    assert pool.due(1.0) == [], "one question at a time"
    assert states(pool) == [("worker-1", "waiting", 0), ("worker-2", "waiting", 0)]


def test_what_is_told_is_asked_for_once() -> None:
    pool = running(1)
    pool.reported(1, report("a1", output=b"hello\n", seen=6), 1.0)
    assert pool.due(1.0) == [Ask(1, 6, True)]
    assert pool.handles[0].where == "node-a"


def test_a_killed_worker_is_started_again_by_ray_after_growing_pauses() -> None:
    pool = running(1)
    pool.reported(1, report("a1", SIGKILL), STEADY_SECONDS)
    assert pool.lines == ["worker-1 was killed (SIGKILL); Ray starts it again"]
    assert pool.due(STEADY_SECONDS) == [Replace(1)]
    now = STEADY_SECONDS + 1.0
    assert pool.due(now) == [Ask(1, NOTHING_SEEN, False)]
    pool.reported(1, report("a2"), now)
    pool.due(now)
    assert states(pool) == [("worker-1", "running", 1)]
    pool.reported(1, report("a2", SIGKILL), now)
    assert pool.due(now) == [], "the second death soon after the first costs a pause"
    assert pool.due(now + 0.5) == [Replace(1)]


def test_an_actor_that_is_to_end_may_answer_once_more_without_dying_twice() -> None:
    pool = running(1)
    pool.reported(1, report("a1", SIGKILL), 1.0)
    pool.due(1.0)
    pool.due(2.0)
    pool.reported(1, report("a1", SIGKILL), 2.0)
    assert states(pool) == [("worker-1", "waiting", 1)]
    assert len(pool.lines) == 1
    pool.due(3.0)
    pool.reported(1, report("a2"), 3.0)
    assert states(pool) == [("worker-1", "running", 1)]


def test_who_dies_again_and_again_is_given_up_and_the_run_ends() -> None:
    pool, now = running(1), 1.0
    for turn in range(6):
        pool.reported(1, report(f"b{turn}", SIGKILL, b"bang\n", 5), now)
        last = pool.due(now + 60.0)
        now += 120.0
        pool.due(now)
    assert last == []
    assert states(pool) == [("worker-1", "ended", 5)]
    assert pool.lines[-1] == (
        "worker-1 was killed 6 times soon after its start (SIGKILL); it is given up: bang"
    )
    assert pool.exhausted == 1


def test_a_lost_node_is_one_death_however_often_ray_says_unavailable() -> None:
    pool = running(2)
    for now in (STEADY_SECONDS, STEADY_SECONDS + 1.0, STEADY_SECONDS + 2.0):
        assert pool.unavailable(2, now) == []
        pool.due(now + 0.6)
    assert states(pool) == [("worker-1", "running", 0), ("worker-2", "waiting", 1)]
    assert pool.lines == ["worker-2 is gone, with its actor or all of node-a; Ray starts it again"]
    pool.reported(2, report("a3"), STEADY_SECONDS + 16.0)
    assert states(pool) == [("worker-1", "running", 0), ("worker-2", "running", 1)]


def test_scaling_sends_the_last_ones_home_and_gives_new_ones_new_numbers() -> None:
    pool = running(3)
    assert pool.scale(1, 1.0) == [SendHome(2), SendHome(3)]
    assert pool.scale(1, 1.0) == [], "those who leave are not counted"
    assert pool.reported(2, report("a2", SIGINT_EXIT), 2.0) == [Remove(2)]
    assert pool.reported(3, report("a3", SIGKILL), 2.0) == [Remove(3)], "it did not leave in time"
    assert pool.scale(2, 3.0) == [Start(4)]
    assert [each.reason for each in pool.handles[1:3]] == [LEFT, LEFT]
    assert pool.exhausted is None


def test_who_waits_for_room_is_removed_at_once_when_there_are_to_be_fewer() -> None:
    pool = Pool()
    pool.scale(2, 0.0)
    assert pool.scale(1, 1.0) == [Remove(2)]
    assert pool.reported(2, report(), 2.0) == [], "an answer that was under way"
    assert pool.handles[1].status is WorkerStatus.ENDED


def test_people_are_told_how_many_wait_for_room_and_when_none_does() -> None:
    pool = running(1)
    pool.scale(3, 0.0)
    assert not room(pool.due(ROOM_SECONDS / 2))
    assert room(pool.due(ROOM_SECONDS)) == [TellRoom(2, 3)]
    assert not room(pool.due(ROOM_SECONDS + 1.0)), "once"
    for number in (2, 3):
        pool.reported(number, report(), 20.0)
    assert room(pool.due(20.0)) == [TellRoom(0, 3)]


def room(actions: list[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, TellRoom)]


def test_a_worker_that_cannot_work_is_not_started_again() -> None:
    pool = running(2)
    words = b"error: the coordinator has no keys: leave out --curve DIR\n"
    assert pool.reported(1, report("a1", 1, words, len(words)), 1.0) == [Remove(1)]
    why = "cannot work: the coordinator has no keys: leave out --curve DIR"
    assert pool.lines == [f"worker-1 {why}"]
    assert pool.exhausted is None
    assert pool.dead(2, "ModuleNotFoundError: No module named 'zmq'") == [Remove(2)]
    assert pool.handles[1].reason == "cannot start: ModuleNotFoundError: No module named 'zmq'"
    assert pool.exhausted == 1


def test_the_end_of_the_run_is_no_failure() -> None:
    pool = running(2)
    for number in (1, 2):
        assert pool.reported(number, report(code=0), 1.0) == [Remove(number)]
    assert pool.exhausted is None
    assert pool.lines == []


def test_workers_that_were_sent_home_by_others_end_the_run_as_an_interrupt_does() -> None:
    pool = running(1)
    pool.reported(1, report(code=SIGINT_EXIT), 1.0)
    assert pool.exhausted == INTERRUPTED


def test_all_are_restarted_at_one_time_and_it_is_no_death() -> None:
    pool = running(2)
    pool.restart_all(5.0)
    assert pool.due(4.0) == []
    assert pool.due(5.0) == [Replace(1), Replace(2)]
    assert states(pool) == [("worker-1", "waiting", 1), ("worker-2", "waiting", 1)]
    assert [pool.members[number].restarts.deaths for number in (1, 2)] == [0, 0]

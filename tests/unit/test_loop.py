"""The event loop: waiting, cancelling, idling."""

from __future__ import annotations

import gc
import os
import time
import weakref

import pytest

from wgsvc.loop import CancelledError, Loop


def test_a_descriptor_wakes_its_task_and_a_timeout_does_too() -> None:
    """`readable` tells which of the two came first."""
    loop = Loop()
    reader, writer = os.pipe()

    async def both() -> tuple[bool, bool]:
        early = await loop.readable(reader, 0.01)
        os.write(writer, b"x")
        return early, await loop.readable(reader, 5)

    assert loop.run(both()) == (False, True)
    os.close(reader)
    os.close(writer)
    loop.close()


def test_a_cancelled_task_may_still_wait_while_it_cleans_up() -> None:
    """Roll-back waits for processes to end; the cancel must not cut that short."""
    loop = Loop()
    seen: list[str] = []

    async def work() -> None:
        try:
            await loop.sleep(60)
        except CancelledError:
            await loop.sleep(0.001)
            seen.append("cleaned")
            raise

    async def main() -> None:
        task = loop.spawn(work())
        await loop.sleep(0.001)
        task.cancel()
        task.cancel()
        await task.wait(5)
        with pytest.raises(CancelledError):
            task.value()

    loop.run(main())
    assert seen == ["cleaned"]
    loop.close()


def test_a_cancel_reaches_a_task_that_was_about_to_run() -> None:
    """Woken and cancelled in the same turn: the cancel wins."""
    loop = Loop()
    gate = loop.future()

    async def work() -> str:
        await gate
        return "ran"

    async def main() -> None:
        task = loop.spawn(work())
        await loop.sleep(0)
        gate.set(None)
        task.cancel()
        await task.wait(5)
        with pytest.raises(CancelledError):
            task.value()

    loop.run(main())
    loop.close()


def test_an_error_reaches_whoever_awaits_the_task() -> None:
    """And is not told as unseen."""
    loop = Loop()
    unseen: list[BaseException] = []
    loop.on_error = unseen.append

    async def fail() -> None:
        raise ValueError("x")

    async def main() -> None:
        with pytest.raises(ValueError, match="x"):
            await loop.spawn(fail())

    loop.run(main())
    assert not unseen
    loop.close()


@pytest.mark.parametrize("fd", [10_000])
def test_a_descriptor_that_can_t_be_waited_for_is_its_task_s_error_alone(fd: int) -> None:
    loop = Loop()
    went_on: list[str] = []

    async def wait() -> None:
        await loop.readable(fd)

    async def other() -> None:
        await loop.sleep(0.01)
        went_on.append("other")

    async def main() -> None:
        waiting, another = loop.spawn(wait()), loop.spawn(other())
        with pytest.raises((OSError, ValueError)):
            await waiting
        await another

    loop.run(main())
    assert went_on == ["other"]
    loop.close()


def test_two_tasks_that_wait_for_one_descriptor() -> None:
    """The second one is told so; the first one goes on waiting."""
    loop = Loop()
    reader, writer = os.pipe()

    async def main() -> None:
        first, second = loop.spawn(loop.readable(reader)), loop.spawn(loop.readable(reader))
        with pytest.raises(KeyError):
            await second
        os.write(writer, b"x")
        assert await first

    loop.run(main())
    os.close(reader)
    os.close(writer)
    loop.close()


def test_the_loop_keeps_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames may hold keys, and a supervisor lives for months."""
    loop = Loop()
    seen: list[weakref.ref[BaseException]] = []
    monkeypatch.setattr(loop, "on_error", lambda error: seen.append(weakref.ref(error)))

    class OddError(Exception):
        pass

    async def fail() -> None:
        raise OddError

    async def main() -> None:
        loop.spawn(fail())
        await loop.sleep(0.01)

    loop.run(main())
    gc.collect()
    assert [each() for each in seen] == [None]
    loop.close()


def test_timers_that_nobody_waits_for_any_more_cause_no_wake_up() -> None:
    """A long deadline whose descriptor came first is dropped, or an idle daemon ticks."""
    loop = Loop()
    reader, writer = os.pipe()

    async def main() -> float:
        os.write(writer, b"x")
        await loop.readable(reader, 0.05)
        started = time.monotonic()
        await loop.sleep(0.2)
        return time.monotonic() - started

    assert loop.run(main()) >= 0.2
    os.close(reader)
    os.close(writer)
    loop.close()


def test_a_future_wakes_everybody_who_waits_for_it() -> None:
    """The end of a process has several listeners; every second one once slept on."""
    loop = Loop()
    future = loop.future()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await future.wait(5)
        woken.append(number)

    async def main() -> None:
        tasks = [loop.spawn(wait(number)) for number in range(4)]
        await loop.sleep(0)
        future.set(None)
        for task in tasks:
            await task

    loop.run(main())
    assert woken == [0, 1, 2, 3]
    loop.close()


def test_a_roll_back_is_not_cut_short_by_a_cancel_that_comes_in_its_middle() -> None:
    """A stop that arrives while a failed start is being undone must wait for that."""
    loop = Loop()
    seen: list[str] = []

    async def undo() -> None:
        await loop.sleep(0.02)
        seen.append("undone")

    async def start() -> None:
        await loop.finish(undo())

    async def main() -> None:
        task = loop.spawn(start())
        await loop.sleep(0.001)
        task.cancel()
        await task.wait(5)
        with pytest.raises(CancelledError):
            task.value()

    loop.run(main())
    assert seen == ["undone"]
    loop.close()


def test_a_loop_that_closes_leaves_no_coroutine_that_never_ran() -> None:
    """Python warns of one wherever it is collected: in some other test."""
    import gc
    import warnings

    async def work() -> None:
        """Never runs."""

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loop = Loop()
        loop.spawn(work())
        loop.close()
        del loop
        gc.collect()
    assert not warned

"""The queue of one tunnel's procedures, and tasks that are begun again."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from wgsvc.loop import CancelledError, Loop
from wgsvc.supervise import kept
from wgsvc.supervise.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.loop import Coro
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.work import Procedure


@pytest.fixture(name="loop")
def _loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


class Story:
    """Procedures that note when they begin and end."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.told: list[str] = []

    def takes(self, name: str, seconds: float = 0.01, clean_up_s: float = 0.0) -> Procedure:
        async def run() -> None:
            self.told.append(f"{name} begins")
            try:
                await self.loop.sleep(seconds)
            except CancelledError:
                await self.loop.sleep(clean_up_s)
                self.told.append(f"{name} is cancelled")
                raise
            self.told.append(f"{name} ends")

        return run

    def fails(self) -> Coro[None]:
        async def run() -> None:
            raise ValueError

        return run()


def test_one_after_the_other(loop: Loop) -> None:
    story, work = Story(loop), Work(loop)

    async def main() -> None:
        work.add(story.takes("a"))
        work.add(story.takes("b"))
        await loop.sleep(0.1)
        work.add(story.takes("c"))
        await loop.sleep(0.05)

    loop.run(main())
    assert story.told == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


def test_a_stop_ends_what_runs_drops_what_waits_and_is_never_beside_either(loop: Loop) -> None:
    story, work, dropped = Story(loop), Work(loop), []

    async def main() -> None:
        work.add(story.takes("first reload", 5, clean_up_s=0.02))
        work.add(story.takes("second reload"), lambda: dropped.append("second reload"))
        await loop.sleep(0)
        await loop.sleep(0.01)
        work.replace(story.takes("stop"))
        await loop.sleep(0.2)

    loop.run(main())
    assert story.told == [
        "first reload begins", "first reload is cancelled", "stop begins", "stop ends"
    ]  # fmt: skip
    assert dropped == ["second reload"]


def test_a_respawn_comes_first_and_the_rest_follows(loop: Loop) -> None:
    story, work = Story(loop), Work(loop)

    async def main() -> None:
        work.add(story.takes("reload", 5))
        work.add(story.takes("save"))
        await loop.sleep(0.01)
        work.interrupt(story.takes("respawn"))
        await loop.sleep(0.2)

    loop.run(main())
    assert story.told[1:] == [
        "reload is cancelled", "respawn begins", "respawn ends", "save begins", "save ends"
    ]  # fmt: skip


def test_a_procedure_that_fails_does_not_end_the_queue(loop: Loop) -> None:
    story, work = Story(loop), Work(loop)

    async def main() -> None:
        work.add(story.fails)
        work.add(story.takes("next"))
        await loop.sleep(0.1)

    loop.run(main())
    assert story.told == ["next begins", "next ends"]


# --- kept tasks


@pytest.fixture(name="context")
def _context(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Context:
    logged: list[str] = []
    monkeypatch.setattr(kept, "log", lambda line, **_: logged.append(line))
    monkeypatch.setattr(kept, "FIRST_DELAY_S", 0.01)
    return cast("Context", SimpleNamespace(loop=loop, logged=logged))


def test_a_task_that_fails_is_begun_again_with_growing_pauses(context: Context) -> None:
    loop, began = context.loop, []

    async def run() -> None:
        began.append(loop.time())
        if len(began) < 5:
            raise OSError(11, "no more processes")

    task = kept.keep(context, "the watch", run)
    loop.run(task.wait(5))

    pauses = [after - before for before, after in pairwise(began)]
    assert len(began) == 5
    assert pauses[-1] > 0.07
    logged = cast("Any", context).logged
    assert len(logged) == 4
    assert logged[0].startswith("the watch: ")


def test_a_cancel_ends_it(context: Context) -> None:
    loop = context.loop

    async def main() -> None:
        task = kept.keep(context, "the watch", lambda: loop.sleep(100))
        await loop.sleep(0.01)
        task.cancel()
        assert await task.wait(1)

    loop.run(main())

"""The queue of look-ups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

from wgsvc.loop import Loop
from wgsvc.supervise.lookups import AT_ONCE, LookUps
from wgsvc.supervise.resolver import Answer

if TYPE_CHECKING:
    from wgsvc.loop import Coro


@pytest.fixture(name="loop")
def _loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


class Resolver:
    """Takes its time, and counts."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.now = self.most = 0
        self.asked: list[str] = []

    def look_up(self, name: str) -> Callable[[], Coro[Answer]]:
        async def run() -> Answer:
            self.asked.append(name)
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await self.loop.sleep(0.01)
                if name == "fails":
                    raise OSError(11, "no more processes")
            finally:
                self.now -= 1
            return Answer((name,))

        return run


def test_so_many_at_once_and_no_more(loop: Loop) -> None:
    resolver, look_ups = Resolver(loop), LookUps(loop)
    names = [f"n{number}" for number in range(50)]

    async def main() -> list[Answer]:
        tasks = [loop.spawn(look_ups.turn(resolver.look_up(name))) for name in names]
        return [await task for task in tasks]

    assert [answer.addresses for answer in loop.run(main())] == [(name,) for name in names]
    assert resolver.most == AT_ONCE


def test_a_failure_and_a_cancel_give_their_place_back(loop: Loop) -> None:
    resolver, look_ups = Resolver(loop), LookUps(loop)

    async def main() -> None:
        tasks = [loop.spawn(look_ups.turn(resolver.look_up("fails"))) for _ in range(20)]
        await loop.sleep(0.005)
        tasks[0].cancel()  # under way
        tasks[-1].cancel()  # waiting
        for task in tasks:
            await task.wait(5)
        again = [loop.spawn(look_ups.turn(resolver.look_up("n"))) for _ in range(AT_ONCE)]
        for task in again:
            assert await task.wait(5)

    loop.run(main())
    assert resolver.most == AT_ONCE
    assert resolver.now == 0


def test_who_is_waited_for_comes_first(loop: Loop) -> None:
    resolver, look_ups = Resolver(loop), LookUps(loop)

    async def main() -> None:
        for number in range(30):
            loop.spawn(look_ups.turn(resolver.look_up(f"n{number}")))
        await loop.sleep(0)
        await look_ups.turn(resolver.look_up("now"), first=True)

    loop.run(main())
    assert resolver.asked.index("now") == AT_ONCE


def test_equal_names_are_looked_up_once(loop: Loop) -> None:
    resolver, look_ups = Resolver(loop), LookUps(loop)

    async def main() -> None:
        turn = partial(look_ups.turn, resolver.look_up("same"))
        tasks = [look_ups.shared("same", turn) for _ in range(10)]
        assert {(await task).addresses for task in tasks} == {("same",)}
        await loop.sleep(0)
        await look_ups.shared("same", turn)  # later: anew

    loop.run(main())
    assert resolver.asked == ["same", "same"]

"""How many names are looked up at once, in all tunnels together: a child each takes memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.loop import Coro, Future, Loop, Task
    from wgsvc.supervise.resolver import Answer

AT_ONCE = 8


class LookUps:
    """The queue of look-ups, and those under way by name: equal names are looked up once."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._free = AT_ONCE
        self._waiting: deque[Future[None]] = deque()
        self._under_way: dict[str, Task[Answer]] = {}

    def shared(self, name: str, look_up: Callable[[], Coro[Answer]]) -> Task[Answer]:
        """Return the look-up of a name that is under way, or begin it."""
        task = self._under_way.get(name)
        if task is None or task.done:
            task = self._under_way[name] = self._loop.spawn(look_up())
            self._loop.spawn(self._forget(name, task))
        return task

    async def _forget(self, name: str, task: Task[Answer]) -> None:
        await task.wait()
        if self._under_way.get(name) is task:
            del self._under_way[name]

    async def turn(self, look_up: Callable[[], Coro[Answer]], *, first: bool = False) -> Answer:
        """Do a look-up when it is its turn; `first` puts it before all that wait."""
        if self._free == 0:
            mine: Future[None] = self._loop.future()
            (self._waiting.appendleft if first else self._waiting.append)(mine)
            try:
                await mine.wait()
            except BaseException:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                else:
                    self._pass_on()  # it was our turn already
                raise
        else:
            self._free -= 1
        try:
            return await look_up()
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().set(None)
        else:
            self._free += 1

"""
The procedures of one tunnel: one at a time, in order, and a stop ends them all.

Whoever has asked for a procedure gets an answer: from the procedure itself, which answers also when
it is cancelled, or from `dropped` if it is never begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wgsvc.loop import Coro, Loop, Task

Procedure = Callable[[], "Coro[None]"]
Dropped = Callable[[], None]


def _nobody() -> None:
    """Nobody has asked for it, so nobody is told that it is dropped."""


class Work:
    """The queue of one tunnel."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Procedure, Dropped]] = deque()
        self._running: Task[Any] | None = None
        self._worker: Task[None] | None = None

    def add(self, procedure: Procedure, dropped: Dropped = _nobody) -> None:
        """Do this after all that is under way or waits."""
        self._waiting.append((procedure, dropped))
        self._go_on()

    def interrupt(self, procedure: Procedure) -> None:
        """Cancel what is under way, do this next, then the rest."""
        self._waiting.appendleft((procedure, _nobody))
        self.cancel_running()
        self._go_on()

    def replace(self, procedure: Procedure) -> None:
        """Cancel what is under way, drop all that waits, then do this."""
        waiting, self._waiting = self._waiting, deque()
        for _, dropped in waiting:
            dropped()
        self.interrupt(procedure)

    def cancel_running(self) -> None:
        """Cancel what is under way; it cleans up before the next one begins."""
        if self._running is not None:
            self._running.cancel()

    def _go_on(self) -> None:
        if self._worker is None or self._worker.done:
            self._worker = self._loop.spawn(self._work())

    async def _work(self) -> None:
        while self._waiting:
            procedure, _ = self._waiting.popleft()
            self._running = self._loop.spawn(procedure())
            await self._running.wait()
        self._running = None

"""
The route monitor: a child that hears the kernel's changes and tells the daemon.

It ends with the daemon (the kernel sees to that), is restarted when it dies, and is gone
when the last tunnel is. It reads the kernel's own messages, never the text of
`route monitor`, which changed in FreeBSD 14.
"""

from __future__ import annotations

import os
import select
import signal
from functools import partial

from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise.context import log
from wgsvc.supervise.kept import keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from wgsvc.loop import Task
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.process import Child
    from wgsvc.system.base import System

SETTLE_S = 0.01  # one change of a link is a burst of messages
LONGEST_BURST = 200
RESTART_DELAY_S = 1.0


class RouteMonitor:
    """The child, and the daemon's end of its pipe. `on_change` gets no details: read the kernel."""

    def __init__(self, context: Context, on_change: Callable[[], None]) -> None:
        self._context = context
        self._on_change = on_change
        self._task: Task[None] | None = None
        self.child: Child | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._task is None:
            self._task = keep(self._context, "the route monitor", self._follow)

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await task.wait(self._context.settings.step_timeout_s)

    async def _follow(self) -> None:
        while True:
            await self._one()
            log("the route monitor ended; it is started again", error=True)
            self._on_change()  # whatever happened meanwhile
            await self._context.loop.sleep(RESTART_DELAY_S)
            self._on_change()

    async def _one(self) -> None:
        """
        Have one child from its start to its end.

        Raises: OSError, OSFailureError if it can't be started.
        """
        read_end, write_end = os.pipe()
        try:
            os.set_blocking(read_end, False)
            try:
                self.child = child = self._context.children.fork(
                    partial(listen, self._context.system, write_end),
                    role="route-monitor",
                    keep=[write_end],
                    outlives_us=False,
                )
            finally:
                os.close(write_end)
            try:
                await self._read(read_end)
            finally:
                child.signal(signal.SIGKILL)
                await child.exited.wait(self._context.settings.step_timeout_s)
                self.child = None
        finally:
            os.close(read_end)

    async def _read(self, read_end: int) -> None:
        while True:
            await self._context.loop.readable(read_end)
            if not os.read(read_end, 1 << 16):
                return
            self._on_change()


def listen(system: System, write_end: int) -> None:
    """
    Hear changes and write a byte for each burst of them. The child's whole life.

    An overflow is a change like any other: the daemon reads everything again anyway. The first byte
    says that it listens from now on: what changed since the tunnel came up has been missed.
    """
    listener = system.monitor_open()
    os.set_blocking(write_end, False)
    os.write(write_end, b"!")
    system.set_title("wgsvc: route monitor")
    while True:
        words = system.monitor_read(listener)
        for _ in range(LONGEST_BURST):
            if not select.select([listener], [], [], SETTLE_S)[0]:
                break
            words += system.monitor_read(listener)
        if not words:
            continue
        try:
            os.write(write_end, b"!")
        except BlockingIOError:
            pass  # the daemon has changes to read already
        except BrokenPipeError:
            return

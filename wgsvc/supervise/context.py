"""What the procedures of the daemon share: the loop, the system, the children, the settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wgsvc.supervise.process import Children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.loop import Loop
    from wgsvc.settings import Settings
    from wgsvc.system.base import System

Say = Callable[[str], None]


class Context:
    """One a daemon."""

    def __init__(self, loop: Loop, system: System, settings: Settings) -> None:
        self.loop = loop
        self.system = system
        self.settings = settings
        self.children = Children(loop, system)
        self.boot_id = system.boot_id()


class Timings:
    """How long each phase of a procedure took, in milliseconds."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to phase `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed_ms = (time.perf_counter() - started) * 1000
            self.phases[name] = self.phases.get(name, 0.0) + elapsed_ms


def log(message: str, *, error: bool = False) -> None:
    """Write one line to syslog, facility daemon. Never a key, never a file's line."""
    import syslog

    syslog.openlog("wgsvc", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_ERR if error else syslog.LOG_INFO, message)

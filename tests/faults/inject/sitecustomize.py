"""
Faults for a supervisor under test: Python imports this first when its folder is in PYTHONPATH.

WGSVC_TEST_FAULT is `ACTION WHEN POINT`: `crash` or `freeze`, `before` or `after`, and where:
`lock`, `spawn`, `journal:N` (the N-th write), `STEP` or `STEP:N` (the N-th of that step, such
as `AddAddress:2`), `routes` (half of a batch is in). `eagain before fork-ROLE` refuses the first
three forks for a role, such as `fork-route-monitor`. Nothing of this is in the package.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any


def strike() -> None:
    """Be killed, or stopped, here and now."""
    action = FAULT.split()[0]
    os.kill(os.getpid(), {"crash": signal.SIGKILL, "freeze": signal.SIGSTOP}[action])


class Point:
    """Counts how often a place was passed, and strikes when it is the one that was meant."""

    def __init__(self, when: str, place: str) -> None:
        self.when = when
        self.name, _, number = place.partition(":")
        self.number = int(number or 1)
        self.passed = 0

    def around(self, name: str) -> Callable[[str], None]:
        """Return what is called with `before` and `after` at a place."""
        if name == self.name:
            self.passed += 1
        mine = name == self.name and self.passed == self.number

        def at(when: str) -> None:
            if mine and when == self.when:
                strike()

        return at


def install(point: Point) -> None:
    """Wrap what the supervisor does."""
    from wgsvc.errors import OSFailureError
    from wgsvc.supervise import journal, perform, process, rundir
    from wgsvc.system.linux import route

    real_perform, real_write = perform.perform, journal.write
    real_spawn, real_take = process.Children.spawn, rundir.Lock.take
    real_add = route.add

    async def performing(context: Any, live: Any, step: Any, *rest: Any) -> None:
        at = point.around(type(step).__name__)
        at("before")
        await real_perform(context, live, step, *rest)
        at("after")

    def writing(run_dir: str, entry: journal.Entry) -> None:
        at = point.around("journal")
        at("before")
        real_write(run_dir, entry)
        at("after")

    def spawning(*words: Any, **named: Any) -> process.Child:
        at = point.around("spawn")
        at("before")
        child = real_spawn(*words, **named)
        at("after")
        return child

    def taking(self: rundir.Lock) -> None:
        at = point.around("lock")
        at("before")
        real_take(self)
        at("after")

    real_fork = process.Children._fork

    def forking(self: process.Children, run: Any, role: str, *rest: Any) -> process.Child:
        if point.name == f"fork-{role}" and point.passed < 3:
            point.passed += 1
            raise OSFailureError("fork", role, errno.EAGAIN)
        return real_fork(self, run, role, *rest)

    def adding(connection: Any, routes: Any) -> Any:
        if point.name == "routes":
            real_add(connection, routes[: len(routes) // 2])
            strike()
        return real_add(connection, routes)

    perform.perform = performing  # type: ignore[assignment]
    journal.write = writing
    process.Children.spawn = spawning  # type: ignore[method-assign]
    process.Children._fork = forking  # type: ignore[method-assign,assignment]
    rundir.Lock.take = taking  # type: ignore[method-assign]
    route.add = adding


FAULT = os.environ.pop("WGSVC_TEST_FAULT", "")
if FAULT:
    install(Point(*FAULT.split()[1:]))

"""
Who lives in the hosts of the lab, found by namespace and ended by proof, never by name.

All processes that a run starts stay below it, orphans too, so that none can escape the
comparison at its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable

from wgsvc.errors import BusyError
from wgsvc.lab.linux_holder import Holder
from wgsvc.lab.linux_namespaces import LIBC, call, namespaces_of, start_id

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Become the parent of every orphan below us, so that none can escape the comparison."""
    call("prctl", LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def inhabitants(holders: Iterable[Holder]) -> list[int]:
    """
    Return every process inside these hosts, the holders too.

    Where the holder is proven alive its network namespace is proof enough; where it is not,
    inode numbers may have been given again, so all of its namespaces have to match.
    """
    own = namespaces_of("self")
    found: set[int] = set()
    proven: set[str] = set()
    complete: set[tuple[str, ...]] = set()
    for holder in holders:
        if holder.start_id and start_id(holder.pid) == holder.start_id:
            found.add(holder.pid)
            proven.update(namespaces_of(holder.pid)[:1])
        elif holder.namespaces:
            complete.add(holder.namespaces)
    proven.discard(own[0])  # a holder that has not made its namespaces yet still has ours
    for pid in _pids():
        namespaces = namespaces_of(pid)
        if namespaces and (namespaces[0] in proven or namespaces in complete):
            found.add(pid)
    return sorted(found)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def end(holders: Iterable[Holder], *, within_s: float) -> None:
    """
    End every process inside these hosts, the holders last: they prove whose the rest is.

    At once (SIGKILL): whatever the processes did goes away with the namespaces.
    Raises: BusyError if some are still there after `within_s` seconds.
    """
    holders = list(holders)
    keepers = {holder.pid for holder in holders}
    deadline = time.monotonic() + within_s
    while pids := inhabitants(holders):
        for pid in [pid for pid in pids if pid not in keepers] or pids:
            _kill_inhabitant(pid, holders)
        reap()
        if time.monotonic() > deadline:
            raise BusyError(f"processes of the lab don't end: {', '.join(map(str, pids))}")
        time.sleep(0.005)
    reap()


def _kill_inhabitant(pid: int, holders: list[Holder]) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # Looked at again now that the descriptor pins it: the PID may be another's by now.
        if pid in inhabitants(holders):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def reap() -> None:
    """Collect children that ended, orphans we inherited among them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descendants() -> list[int]:
    """Return every process below this one, those it inherited included."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found

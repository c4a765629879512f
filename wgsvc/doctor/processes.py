"""
wg-quick's leftovers: the bash that watches routes, and its `route -n monitor`.

wg-quick (FreeBSD) leaves a subshell of itself behind, with the command line of the call,
and that runs `route -n monitor`, on newer systems below a further sh. The subshell only
looks after its interface when a routing message comes, and from FreeBSD 14 on never.
"""

from __future__ import annotations

import functools
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from wgsvc.doctor.finding import INFO, WARNING, Finding, Host
from wgsvc.errors import TimeoutExpiredError
from wgsvc.supervise import journal

if TYPE_CHECKING:
    import psutil

    from wgsvc.system.base import System

_TERM_S, _KILL_S = 3.0, 3.0


class Suspect(NamedTuple):
    """A process as it was when found: same PID, start and command line, or not the same."""

    pid: int
    start_id: str
    cmdline: tuple[str, ...]


def find(host: Host) -> list[Finding]:
    """Return wg-quick's processes that have outlived their use."""
    import psutil

    ours = {entry.name for entry in journal.read_all(host.settings.run_dir, host.system.boot_id())}
    found: list[Finding] = []
    taken: set[int] = set()
    orphans = [process for process in psutil.process_iter() if _is_orphan(process)]
    for process in orphans:
        name = watched_interface(_cmdline(process))
        if not name:
            continue
        family = _family(host.system, process)
        taken.update(suspect.pid for suspect in family)
        found.append(_judge(host, name, family, supervised=name in ours))
    for process in orphans:
        if process.pid not in taken and is_route_monitor(_cmdline(process)):
            found += _stray_monitor(host.system, process)
    return found


def watched_interface(cmdline: tuple[str, ...]) -> str:
    """Return which interface a `bash .../wg-quick up IF` is about, "" if it is none."""
    words = [word for word in cmdline if word != "--"]
    if len(words) != 4 or os.path.basename(words[0]) != "bash" or words[2] != "up":
        return ""
    if os.path.basename(words[1]) != "wg-quick":
        return ""
    return os.path.basename(words[3]).removesuffix(".conf")


def is_route_monitor(cmdline: tuple[str, ...]) -> bool:
    """Return whether this is `route -n monitor`."""
    return len(cmdline) == 3 and (os.path.basename(cmdline[0]), *cmdline[1:]) == (
        "route",
        "-n",
        "monitor",
    )


def _judge(host: Host, name: str, family: list[Suspect], *, supervised: bool) -> Finding:
    pids = " ".join(str(suspect.pid) for suspect in family)
    here = host.system.interface(name) is not None
    if here and not supervised:
        what = f"{name} was brought up by wg-quick, which still watches it (PID {pids})"
        return Finding(INFO, "wg-quick", what, f"wg-quick down {name}")
    # On TERM it removes the routes it made; but where the interface is ours by now, it
    # takes ours for its own. KILL leaves it no time for that.
    number = signal.SIGKILL if here else signal.SIGTERM
    state = "is supervised by wgsvc now" if here else "is gone"
    what = f"left behind by wg-quick: PID {pids} watch {name}, which {state}"
    fix = functools.partial(end_all, host.system, family, number)
    return Finding(WARNING, "wg-quick", what, f"kill -{number.name[3:]} {pids}", fix)


def _stray_monitor(system: System, process: psutil.Process) -> list[Finding]:
    suspect = _suspect(system, process.pid, _cmdline(process))
    if suspect is None:
        return []
    if not _has_wg_quick_tmpdir(process):
        what = f"PID {suspect.pid}, `route -n monitor`, has lost its parent; wg-quick leaves such"
        return [Finding(INFO, "wg-quick", what, f"kill {suspect.pid}")]
    what = f"left behind by wg-quick: PID {suspect.pid}, `route -n monitor`"
    fix = functools.partial(end_all, system, [suspect], signal.SIGTERM)
    return [Finding(WARNING, "wg-quick", what, f"kill {suspect.pid}", fix)]


def _has_wg_quick_tmpdir(process: psutil.Process) -> bool:
    # wg-quick gives all its children a TMPDIR from mktemp(1) without a template, which it
    # removes when it ends. That is proof enough; the command line alone is not.
    import psutil

    try:
        folder = process.environ().get("TMPDIR", "")
    except (psutil.Error, AttributeError):  # not every platform shows it
        return False
    return os.path.basename(folder).startswith("tmp.")


def _is_orphan(process: psutil.Process) -> bool:
    """
    Return whether the parent that started it is gone.

    Whoever inherited it (init, a reaper) is of another session; a parent that started it
    is of the same, unless it made it a session's leader.
    """
    try:
        parent = process.ppid()
        if parent == 0:
            return process.pid != 1 and os.getsid(process.pid) != process.pid
        return os.getsid(process.pid) not in (process.pid, os.getsid(parent))
    except (OSError, _psutil_error()):
        return False


def _psutil_error() -> type[Exception]:
    import psutil

    error: type[Exception] = psutil.Error
    return error


def _cmdline(process: psutil.Process) -> tuple[str, ...]:
    try:
        return tuple(process.cmdline())
    except _psutil_error():
        return ()


def _family(system: System, process: psutil.Process) -> list[Suspect]:
    try:
        members = [process, *process.children(recursive=True)]
    except _psutil_error():
        members = [process]
    suspects = (_suspect(system, member.pid, _cmdline(member)) for member in members)
    return [suspect for suspect in suspects if suspect is not None]


def _suspect(system: System, pid: int, cmdline: tuple[str, ...]) -> Suspect | None:
    start_id = system.start_id(pid)
    return Suspect(pid, start_id, cmdline) if start_id and cmdline else None


def end_all(system: System, suspects: list[Suspect], number: int) -> str:
    """
    End processes, each only if it still is the one that was found.

    Raises: TimeoutExpiredError if one resists SIGKILL.
    """
    ended = [str(suspect.pid) for suspect in suspects if _end(system, suspect, number)]
    return f"ended {' '.join(ended)}" if ended else "gone by themselves"


def _end(system: System, suspect: Suspect, number: int) -> bool:
    import psutil

    try:
        watch = system.exit_watch(suspect.pid)
    except ProcessLookupError:
        return False
    try:
        # The watch is on whoever has the PID now; only then is it certain who that is.
        if system.start_id(suspect.pid) != suspect.start_id:
            return False
        if _cmdline(psutil.Process(suspect.pid)) != suspect.cmdline:
            return False
        for each, patience_s in ((number, _TERM_S), (signal.SIGKILL, _KILL_S)):
            if not system.signal(suspect.pid, suspect.start_id, watch, each):
                return True
            if _ended(watch, patience_s):
                return True
    except psutil.Error:
        return False
    finally:
        os.close(watch)
    raise TimeoutExpiredError(f"process {suspect.pid} does not end")


def _ended(watch: int, patience_s: float) -> bool:
    import select

    poll = select.poll()
    poll.register(watch, select.POLLIN)
    return bool(poll.poll(patience_s * 1000))

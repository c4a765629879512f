"""Processes: reaper, end of the parent, who is who. Sources: procctl(2), kqueue(2), unix(4)."""

from __future__ import annotations

import errno
import os
import struct

from wgsvc.errors import OSFailureError, UnavailableError
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from wgsvc.system.freebsd.kernel import Kernel

PROC_REAP_ACQUIRE = 2
PROC_PDEATHSIG_CTL = 11
SIGKILL = 9
SPARE_DESCRIPTOR = 120  # scripts use 3 to 9, flock(1)'s examples 200

KERN_PROC_PID = (1, 14, 1)  # CTL_KERN.KERN_PROC.KERN_PROC_PID, then the PID
KINFO_PROC = struct.Struct("=72xi260xqq736x")  # ki_pid, ki_start
TIMEVAL = struct.Struct("=qq")
XUCRED = struct.Struct("=IIh2x16I4xi4x")  # cr_version, cr_uid, cr_ngroups, cr_groups, cr_pid
XU_NGROUPS = 16
XUCRED_VERSION = 0

for _layout, _size in ((KINFO_PROC, 1088), (XUCRED, 88)):
    if _layout.size != _size:
        raise UnavailableError(f"a structure is {_layout.size} bytes here, not {_size}")


def unbroken_pipe() -> tuple[int, int, tuple[int, ...]]:
    """
    Return read end, write end, and a second read end for a child to inherit.

    It has a number that no script uses for a file of its own. A child that closes what it does
    not know (sudo, daemon(8)) loses it, and gets SIGPIPE when all others are closed too.
    """
    import fcntl

    read_end, write_end = os.pipe()
    try:
        spare = fcntl.fcntl(read_end, fcntl.F_DUPFD_CLOEXEC, SPARE_DESCRIPTOR)
    except OSError as error:
        os.close(read_end)
        os.close(write_end)
        raise OSFailureError("fcntl", "F_DUPFD_CLOEXEC", error.errno or 0) from None
    return read_end, write_end, (spare,)


def become_reaper(kernel: Kernel) -> None:
    """Become the reaper of all descendants; done already is success."""
    try:
        kernel.procctl(PROC_REAP_ACQUIRE, None)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise OSFailureError("procctl", "PROC_REAP_ACQUIRE", error.errno or 0) from error


def die_with_parent(kernel: Kernel) -> None:
    """Have the kernel SIGKILL this process when its parent ends."""
    try:
        kernel.procctl(PROC_PDEATHSIG_CTL, SIGKILL)
    except OSError as error:
        raise OSFailureError("procctl", "PROC_PDEATHSIG_CTL", error.errno or 0) from error


def exit_watch(kernel: Kernel, pid: int) -> int:
    """Return a kqueue that turns readable when `pid` ends. Raises: ProcessLookupError."""
    try:
        return kernel.watch_exit(pid)
    except ProcessLookupError:
        raise
    except OSError as error:
        raise OSFailureError("kevent", f"process {pid}", error.errno or 0) from error


def start_id(kernel: Kernel, pid: int) -> str | None:
    """
    Return when a process started, counted from the boot, in microseconds.

    The kernel reports start plus boot time, and moves the boot time when the clock is
    set (kern_proc.c, fill_kinfo_proc), so the boot time is taken off again.
    """
    boot = _boot_time(kernel)
    while True:
        try:
            data = kernel.sysctl((*KERN_PROC_PID, pid))
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.ENOENT):
                return None
            raise OSFailureError("sysctl", f"kern.proc.pid.{pid}", error.errno or 0) from error
        if len(data) < KINFO_PROC.size:
            return None
        again = _boot_time(kernel)
        if again == boot:  # else the clock was set between the two readings
            break
        boot = again
    _pid, seconds, microseconds = KINFO_PROC.unpack_from(data)
    return str(seconds * 1_000_000 + microseconds - boot)


def send_signal(kernel: Kernel, pid: int, expected_start: str, watch: int, number: int) -> bool:
    """
    Signal a process if it is still the one of `expected_start`.

    Between the look and the signal the number could pass to another process only
    after the old one was reaped and all other numbers were used once.
    """
    import select

    poller = select.poll()
    poller.register(watch, select.POLLIN)
    if poller.poll(0) or start_id(kernel, pid) != expected_start:
        return False
    try:
        kernel.kill(pid, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise OSFailureError("kill", f"process {pid}", error.errno or 0) from error
    return True


def peer_pid(kernel: Kernel, connection: socket.socket) -> int:
    """
    Return who called listen() on the other end.

    Raises: UnavailableError on kernels that do not tell (12.0).
    """
    pid = _credentials(kernel, connection)[2]
    if pid <= 0:
        raise UnavailableError("this kernel does not tell who listens on a socket")
    return pid


def peer_uid(kernel: Kernel, connection: socket.socket) -> int:
    """Return the effective user of who connected."""
    return _credentials(kernel, connection)[0]


def peer_groups(kernel: Kernel, connection: socket.socket) -> tuple[int, ...]:
    """Return the first 16 groups of who connected; the first one is the effective one."""
    return _credentials(kernel, connection)[1]


def boot_id(kernel: Kernel) -> str:
    """
    Return the kernel's own identity of this boot, before 13 the time of the boot.

    The latter moves when the clock is set, which looks like a reboot: what was
    recorded is then believed less than it could be, never more.
    """
    try:
        return kernel.sysctl_by_name("kern.boot_id")[:16].hex()
    except OSError:
        return f"boottime-{_boot_time(kernel)}"


def _boot_time(kernel: Kernel) -> int:
    seconds, microseconds = TIMEVAL.unpack_from(kernel.sysctl_by_name("kern.boottime"))
    return int(seconds * 1_000_000 + microseconds)


def _credentials(kernel: Kernel, connection: socket.socket) -> tuple[int, tuple[int, ...], int]:
    """Return user, groups and PID."""
    try:
        answer = kernel.peer_credentials(connection)
    except OSError as error:
        raise OSFailureError("LOCAL_PEERCRED", "UNIX socket", error.errno or 0) from error
    if len(answer) != XUCRED.size:
        raise UnavailableError("this kernel's credentials have an unknown form")
    version, uid, count, *groups, pid = XUCRED.unpack(answer)
    if version != XUCRED_VERSION:
        raise UnavailableError("this kernel's credentials have an unknown version")
    return uid, tuple(groups[: max(0, min(count, XU_NGROUPS))]), pid

"""Processes: pidfd_open(2), proc(5), prctl(2), unix(7)."""

from __future__ import annotations

import errno
import os
import socket
import struct

from wgsvc.errors import OSFailureError

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
SYS_PIDFD_GETFD = 438  # the same number on every architecture but alpha
SIGKILL = 9
UCRED = struct.Struct("=iII")  # pid, uid, gid
SO_PEERGROUPS = 59  # asm-generic/socket.h; another number on PA-RISC and SPARC: refused there
PEERGROUPS_BYTES = 1024  # the most that Python's getsockopt() takes: 256 groups


def _prctl(option: int, value: int, name: str) -> None:
    import ctypes  # 4 ms that only the daemon and its children need

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSFailureError("prctl", name, ctypes.get_errno())


def unbroken_pipe() -> tuple[int, int, tuple[int, ...]]:
    """
    Return read end, write end, and nothing else for a child to inherit.

    The write end can be read as well (pipe(7): opened through /proc with O_RDWR), so every
    process that can write is a reader: also one that closes all descriptors but 0, 1 and 2.
    """
    read_end, write_end = os.pipe()
    try:
        both = os.open(f"/proc/self/fd/{write_end}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        os.close(read_end)
        raise OSFailureError("open", "a pipe by /proc/self/fd", error.errno or 0) from None
    finally:
        os.close(write_end)
    return read_end, both, ()


def become_reaper() -> None:
    """Make orphans of our descendants our own children."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def die_with_parent() -> None:
    """Have the kernel SIGKILL this process when its parent ends."""
    _prctl(PR_SET_PDEATHSIG, SIGKILL, "PR_SET_PDEATHSIG")


def set_title(title: str) -> None:
    """
    Put a title where the kernel reads /proc/self/cmdline, and the name of `ps -o comm`.

    That is the memory of our arguments (proc_pid_stat(5): arg_start, arg_end), which nobody reads
    any more: Python has copies. What does not fit is cut off. A process that can't, has
    its old title.
    """
    import ctypes

    try:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # fields 48 and 49; two are before the `)`
    except (OSError, IndexError, ValueError):
        return
    if 0 < start < end:
        # The last byte stays 0: otherwise the kernel reads on in the environment.
        text = title.encode()[: end - start - 1].ljust(end - start, b"\0")
        ctypes.memmove(start, text, end - start)
    ctypes.CDLL(None).prctl(PR_SET_NAME, ctypes.c_char_p(title.encode()[:15]), 0, 0, 0)


def exit_watch(pid: int) -> int:
    """Return a pidfd: readable when the process has ended. Raises: ProcessLookupError."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError as error:
        if error.errno == errno.EINVAL:  # no process has this number (0, negative, a thread's)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        raise OSFailureError("pidfd_open", f"process {pid}", error.errno or 0) from None


def start_id(pid: int) -> str | None:
    """Return the start time in clock ticks since boot (proc(5), stat, field 22), None if gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read(4096)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise OSFailureError("read", f"/proc/{pid}/stat", error.errno or 0) from None
    return line[line.rindex(b")") + 2 :].split()[19].decode()  # the name may hold anything


def send_signal(pid: int, started: str, pidfd: int, number: int) -> bool:
    """Signal a process through its pidfd if it is still that of `started`."""
    if start_id(pid) != started:
        return False
    import signal

    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise OSFailureError("pidfd_send_signal", f"process {pid}", error.errno or 0) from None
    return True


def peer_credentials(connection: socket.socket) -> tuple[int, int]:
    """Return PID and user of the other end of a UNIX socket."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    except OSError as error:
        raise OSFailureError("getsockopt", "SO_PEERCRED", error.errno or 0) from None
    pid, uid, _gid = UCRED.unpack(raw)
    return pid, uid


def peer_groups(connection: socket.socket) -> tuple[int, ...]:
    """Return the groups of the other end as they were when it connected."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    except OSError as error:
        raise OSFailureError("getsockopt", "SO_PEERCRED", error.errno or 0) from None
    first: int = UCRED.unpack(raw)[2]
    try:
        others = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, PEERGROUPS_BYTES)
    except OSError:  # an old kernel, or more groups than that
        return (first,)
    return (first, *(group for (group,) in struct.iter_unpack("=I", others)))


def take_tun(pid: int, name: str) -> int | None:
    """
    Return a copy of the descriptor through which a process holds tun `name`.

    None if it holds none, or if we may not take it (pidfd_getfd(2) asks what ptrace(2) asks).
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        for number in _descriptors(pid):
            if _tun_behind(f"/proc/{pid}/fdinfo/{number}") != name:
                continue
            copy = _copy_descriptor(pidfd, int(number))
            if copy is None:
                return None
            if _tun_behind(f"/proc/self/fdinfo/{copy}") == name:  # not reused meanwhile
                return copy
            os.close(copy)
    finally:
        os.close(pidfd)
    return None


def _descriptors(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


def _tun_behind(fdinfo: str) -> str | None:
    """Return the interface of a tun descriptor, from the `iff:` line of its fdinfo."""
    try:
        with open(fdinfo, "rb") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(b"iff:"):
            return line[4:].strip().decode(errors="replace")
    return None


def _copy_descriptor(pidfd: int, number: int) -> int | None:
    import ctypes  # only when a tunnel is adopted

    libc = ctypes.CDLL(None, use_errno=True)
    copy = int(libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0))
    return copy if copy >= 0 else None  # close-on-exec already


def boot_id() -> str:
    """Return the kernel's random number of this boot."""
    path = "/proc/sys/kernel/random/boot_id"
    try:
        with open(path, encoding="ascii") as file:
            return file.read(64).strip()
    except OSError as error:
        raise OSFailureError("read", path, error.errno or 0) from None

"""Linux namespaces: entering them, telling them apart, and the system calls for it."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable

from wgsvc.errors import OSFailureError, WgsvcError, unforeseen

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

KINDS = ("net", "mnt", "uts")

LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, outcome: int, subject: str) -> None:
    """Raise OSFailureError if this outcome of a system call is a failure."""
    if outcome != 0:
        raise OSFailureError(name, subject, ctypes.get_errno())


def enter_user_namespace() -> None:
    """
    Become root of a new user namespace: how an ordinary user gets a network to play with.

    Raises: OSFailureError where the system doesn't allow that.
    """
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", LIBC.unshare(CLONE_NEWUSER), "user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        path = f"/proc/self/{name}"
        try:
            with open(path, "w") as file:
                file.write(text)
        except OSError as error:
            raise OSFailureError("write", path, error.errno or 0) from None


def start_id(pid: int) -> str | None:
    """Return what tells this process from any other with this PID; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):  # a zombie holds nothing any more
        return None
    return f"{boot}/{fields[19].decode()}"  # field 22 of proc(5): starttime


def namespaces_of(pid: int | str) -> tuple[str, ...]:
    """Return the namespaces of a process, () if it is gone or not ours to see."""
    try:
        return tuple(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS)
    except OSError:
        return ()


def made_inside(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """
    Make a socket in the network namespace of another process.

    A child goes there: an ordinary user who enters a namespace can't go home again.
    Raises: WgsvcError if it can't be entered or the socket not be made.
    """
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        said = ""
        descriptors: list[int] = []
        try:
            _enter_network(pid)
            made = make()
            descriptors = [made.fileno()]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            said = unforeseen(error).message
        finally:
            socket.send_fds(there, [said.encode() or b"ok"], descriptors)
            os._exit(0)
    there.close()
    with here:
        words, received, _, _ = socket.recv_fds(here, 4000, 1)
    os.waitpid(child, 0)
    if not received:
        reason = words.decode("utf-8", "replace") or "the child ended without a word"
        raise WgsvcError(f"in the network of process {pid}: {reason}")
    return socket.socket(fileno=received[0])


def _enter_network(pid: int) -> None:
    with open(f"/proc/{pid}/ns/net") as namespace:
        call("setns", LIBC.setns(namespace.fileno(), CLONE_NEWNET), f"process {pid}")

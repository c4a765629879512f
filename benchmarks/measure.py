"""Running commands and reading processes, with figures."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC_PRIVATE = 0x4000 | 0x40000


class Run(NamedTuple):
    """One command: how long it took, and the CPU time of it and what it waited for."""

    wall_ms: float
    cpu_ms: float


def timed(argv: Sequence[str], env: dict[str, str], *, allowed: Sequence[int] = (0,)) -> Run:
    """
    Run a command, stdout and stderr to a file, and measure it.

    Raises: RuntimeError with what it said if its exit status is none of `allowed`.
    """
    with tempfile.TemporaryFile(dir="/run") as said:
        out = said.fileno()
        actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
        started = time.perf_counter()
        pid = os.posix_spawnp(argv[0], list(argv), env, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        wall_ms = (time.perf_counter() - started) * 1000
        if os.waitstatus_to_exitcode(status) not in allowed:
            said.seek(0)
            tail = said.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{' '.join(argv)}: wait status {status}\n{tail}")
    return Run(wall_ms, (usage.ru_utime + usage.ru_stime) * 1000)


def enter_namespaces() -> None:
    """
    Move this process into network and mount namespaces of its own, with an empty /run.

    Two names of one link stand for the way out, so that endpoints have a route and an MTU.
    Raises: OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "mount --make-rprivate /")
    for target in ("/run", "/etc/wireguard"):
        if libc.mount(b"tmpfs", target.encode(), b"tmpfs", 0, b"mode=0755") != 0:
            raise OSError(ctypes.get_errno(), f"mount tmpfs {target}")
    for command in (
        "link set lo up",
        "link add out0 type veth peer name out1",
        "address add 198.51.100.1/24 dev out0",
        "link set out0 up",
        "link set out1 up",
    ):
        pid = os.posix_spawnp("ip", ["ip", *command.split()], os.environ)
        if os.waitpid(pid, 0)[1] != 0:
            raise OSError(f"ip {command} failed")


def wait_until_gone(name: str, pid: int | None, limit_s: float = 30.0) -> None:
    """
    Wait until interface, UAPI socket and process are no more, so that the next run is cold.

    Raises: RuntimeError.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if (
            name not in (there for _, there in socket.if_nameindex())
            and not os.path.exists(f"/run/wireguard/{name}.sock")
            and (pid is None or not os.path.exists(f"/proc/{pid}"))
        ):
            return
        time.sleep(0.002)
    raise RuntimeError(f"{name} is still there {limit_s:g} s after it was stopped")


def status_field(pid: int, field: str) -> int:
    """Return a number of /proc/PID/status (KiB for sizes)."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
    raise KeyError(field)


def children_of(pid: int) -> dict[int, str]:
    """Return PID and name of the children of a process."""
    found = {}
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in map(int, file.read().split()):
            with (
                contextlib.suppress(FileNotFoundError),
                open(f"/proc/{child}/comm", encoding="ascii") as comm,
            ):
                found[child] = comm.read().strip()
    return found


def switches(pids: Sequence[int]) -> int:
    """Return how often these processes woke up so far, or were sent to sleep."""
    fields = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    return sum(status_field(pid, field) for pid in pids for field in fields)

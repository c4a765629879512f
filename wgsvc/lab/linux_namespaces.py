"""
Hosts made of Linux namespaces: network, mount and UTS, kept alive by one holder process each.

The holder is forked, waits until its identity is on record, makes its namespaces and
then sleeps as a tiny program, so whoever finds the record can enter or end them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from wgsvc.errors import BusyError, OSFailureError

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_REC_PRIVATE = 0x4000 | 0x40000
PR_SET_CHILD_SUBREAPER = 36

KINDS = ("net", "mnt", "uts")
CONFIG_DIR = "/usr/local/etc/wireguard"
_HIDDEN_CONFIG_DIR = "/etc/wireguard"  # the machine's own tunnels are none of the lab's business

_libc = ctypes.CDLL(None, use_errno=True)


class Holder(NamedTuple):
    """The process that keeps a host, and what proves that it still is that process."""

    host: str
    pid: int
    start_id: str  # boot id and start time: no other process ever has both
    namespaces: tuple[str, ...] = ()  # `net:[4026532...]`, in the order of KINDS


def become_subreaper() -> None:
    """Become the parent of every orphan below us, so that none can escape the comparison."""
    _call("prctl", _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def enter_user_namespace() -> None:
    """
    Become root of a new user namespace: how an ordinary user gets a network to play with.

    Raises: OSFailureError where the system doesn't allow that.
    """
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _libc.unshare(CLONE_NEWUSER), "user namespace")
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


class Starting(NamedTuple):
    """A holder that waits for `go`; if we end before that, so does it."""

    holder: Holder
    go: int
    outcome: int


def fork_holder(host: str, *, forwards: bool) -> Starting:
    """
    Fork the holder of a host. Record it, then call `finish_holder`.

    `forwards`: the host is a router.
    """
    go_read, go_write = os.pipe()
    outcome_read, outcome_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go_write)
            os.close(outcome_read)
            _hold(host, go_read, outcome_write, forwards=forwards)
        finally:
            os._exit(1)
    os.close(go_read)
    os.close(outcome_write)
    return Starting(Holder(host, pid, start_id(pid) or ""), go_write, outcome_read)


def finish_holder(starting: Starting) -> Holder:
    """
    Let the holder make its namespaces; return it with them.

    Raises: OSFailureError with the call that failed in it.
    """
    os.write(starting.go, b"go")
    os.close(starting.go)
    with os.fdopen(starting.outcome, "rb") as outcome:
        said = outcome.read().decode(errors="replace")
    holder = starting.holder
    if said != "ready":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(holder.pid, 0)
        call, _, rest = said.partition("\n")
        subject, _, number = rest.partition("\n")
        raise OSFailureError(call or "fork", subject or holder.host, int(number or 0))
    return holder._replace(namespaces=namespaces_of(holder.pid))


def _hold(host: str, go: int, outcome: int, *, forwards: bool) -> NoReturn:
    """Be a holder. Ends as `sleep`, with a name that ps shows."""
    if os.read(go, 2) != b"go":
        os._exit(1)
    try:
        os.setsid()
        os.chdir("/")
        _furnish(host, forwards=forwards)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        # The outcome pipe closes on exec: its reader sees either "ready" and EOF or an error.
        os.write(outcome, b"ready")
        os.execvp("sleep", [f"wgsvc-lab:{host}", "infinity"])
    except OSFailureError as error:
        os.write(outcome, f"{error.call}\n{error.subject}\n{error.errno}".encode())
    except OSError as error:
        os.write(outcome, f"open\n{error.filename}\n{error.errno}".encode())
    os._exit(1)


def _furnish(host: str, *, forwards: bool) -> None:
    _call("unshare", _libc.unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS), "namespaces")
    name = host.encode()
    _call("sethostname", _libc.sethostname(name, len(name)), host)
    _call("mount", _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "--make-rprivate /")
    for path in ("/run", "/var/run", _HIDDEN_CONFIG_DIR):
        if os.path.isdir(path) and not os.path.islink(path):
            _mount_tmpfs(path)
    if not os.path.isdir(CONFIG_DIR):  # Debian has none: an own parent to make it in
        _mount_tmpfs(os.path.dirname(CONFIG_DIR))
        os.mkdir(CONFIG_DIR, 0o700)
    else:
        _mount_tmpfs(CONFIG_DIR)
    # A new stack may inherit these from the machine's (net.core.devconf_inherit_init_net).
    for key, value in (
        ("ipv4/ip_forward", int(forwards)),
        ("ipv4/conf/all/rp_filter", 0),
        ("ipv4/conf/default/rp_filter", 0),
    ):
        with open(f"/proc/sys/net/{key}", "w") as file:
            file.write(str(value))


def _mount_tmpfs(path: str) -> None:
    outcome = _libc.mount(b"wgsvc-lab", path.encode(), b"tmpfs", 0, b"mode=0755")
    _call("mount", outcome, f"tmpfs on {path}")


def made_inside(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """
    Make a socket in the network namespace of another process.

    A child goes there: an ordinary user who enters a namespace can't go home again.
    Raises: OSFailureError if it can't be entered or the socket not be made.
    """
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        number = errno.EIO
        try:
            _enter_network(pid)
            with make() as made:
                socket.send_fds(there, [b"ok"], [made.fileno()])
            number = 0
        except OSFailureError as error:
            number = error.errno
        except OSError as error:
            number = error.errno or number
        finally:
            os._exit(number)
    there.close()
    with here:
        _, descriptors, _, _ = socket.recv_fds(here, 2, 1)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not descriptors:
        raise OSFailureError("socket", f"in the network of process {pid}", number)
    return socket.socket(fileno=descriptors[0])


def _enter_network(pid: int) -> None:
    with open(f"/proc/{pid}/ns/net") as namespace:
        _call("setns", _libc.setns(namespace.fileno(), CLONE_NEWNET), f"process {pid}")


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


def _call(name: str, outcome: int, subject: str) -> None:
    if outcome != 0:
        raise OSFailureError(name, subject, ctypes.get_errno())

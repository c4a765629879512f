"""
The process that keeps a host of the lab alive, and what the host is furnished with.

It is forked, waits until its identity is on record, makes its namespaces and then
sleeps as a tiny program, so whoever finds the record can enter or end the host.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple, NoReturn

from wgsvc.errors import OSFailureError
from wgsvc.lab.linux_namespaces import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    LIBC,
    call,
    namespaces_of,
    start_id,
)

MS_REC_PRIVATE = 0x4000 | 0x40000

CONFIG_DIR = "/usr/local/etc/wireguard"
_HIDDEN_CONFIG_DIR = "/etc/wireguard"  # the machine's own tunnels are none of the lab's business


class Holder(NamedTuple):
    """The process that keeps a host, and what proves that it still is that process."""

    host: str
    pid: int
    start_id: str  # boot id and start time: no other process ever has both
    namespaces: tuple[str, ...] = ()  # `net:[4026532...]`, in the order of KINDS


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
    call("unshare", LIBC.unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS), "namespaces")
    name = host.encode()
    call("sethostname", LIBC.sethostname(name, len(name)), host)
    call("mount", LIBC.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "--make-rprivate /")
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
    outcome = LIBC.mount(b"wgsvc-lab", path.encode(), b"tmpfs", 0, b"mode=0755")
    call("mount", outcome, f"tmpfs on {path}")

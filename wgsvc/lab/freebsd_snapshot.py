"""What there is on FreeBSD at one moment, as base programs show it, for comparison."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from wgsvc.lab import freebsd_jails
from wgsvc.lab.compare import Snapshot
from wgsvc.lab.freebsd_jails import Jail

_SOCKET_DIRS = ("/var/run/wireguard", "/var/run/wgsvc")
_MARK = "%%"

# One shell, because a fork a question is slow on small machines.
_SCRIPT = f"""
ifconfig -a
echo {_MARK}
netstat -rnW
echo {_MARK}
sockstat -46l
"""

Shell = Callable[[str], str]
"""Runs a shell script where the snapshot is taken; returns its output."""


def inside(jail: Jail, shell: Shell) -> Snapshot:
    """Return what there is in a jail."""
    interfaces, routes, sockets = shell(_SCRIPT).split(f"{_MARK}\n")
    return Snapshot(
        processes=_processes(jail),
        interfaces=_interfaces(interfaces),
        routes=_routes(routes),
        sockets=_ports(sockets, None) | _socket_files(jail.root),
    )


def outside(folder: str) -> Snapshot:
    """Return what there is outside of the jails below a folder, and which of them there are."""
    jails = [jail for _, jail in freebsd_jails.jails_below(folder)]
    shown = freebsd_jails.output(["sh"], text=_SCRIPT)
    ours = _tree(os.getpid())
    interfaces, routes, sockets = shown.split(f"{_MARK}\n")
    return Snapshot(
        processes=_shown(ours).union(*map(_processes, jails)),
        interfaces=_interfaces(interfaces),
        routes=_routes(routes),
        # Other people's sockets come and go: only those of our own processes count.
        sockets=_ports(sockets, {pid for pid, _ in ours}) | _socket_files(""),
        namespaces=frozenset(freebsd_jails.output(["jls", "-d", "jid", "name"]).splitlines()),
        mounts=frozenset(f"{kind} on {where}" for kind, where in freebsd_jails.mounts()),
    )


def _processes(jail: Jail) -> frozenset[str]:
    # ps itself is not in the jail; a shell of ours that runs there has ended.
    return _shown(freebsd_jails.processes(jail))


def _shown(processes: list[tuple[int, str]]) -> frozenset[str]:
    return frozenset(f"{pid} {command[:60]}" for pid, command in processes)


def _children() -> dict[int, list[tuple[int, str]]]:
    found: dict[int, list[tuple[int, str]]] = {}
    listed = freebsd_jails.output(["ps", "-axww", "-o", "pid=", "-o", "ppid=", "-o", "command="])
    for line in listed.splitlines():
        words = line.split(None, 2)
        found.setdefault(int(words[1]), []).append((int(words[0]), words[-1]))
    return found


def _tree(pid: int) -> list[tuple[int, str]]:
    children = _children()
    found, waiting = [], [pid]
    while waiting:
        below = [one for one in children.get(waiting.pop(), []) if not one[1].startswith("ps -ax")]
        found += below
        waiting += [child for child, _ in below]
    return found


def _interfaces(text: str) -> frozenset[str]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if not line[:1].isspace():
            name = line.partition(":")[0]
            found[name] = []
        elif line.split()[0] in ("inet", "inet6"):
            found[name].append(line.split()[1])
    return frozenset(" ".join([name, *sorted(found[name])]) for name in found)


def routes_of(text: str) -> list[tuple[str, str, str]]:
    """
    Return (prefix, gateway, interface) of the lines of `netstat -rnW`.

    Between flags and interface are columns of numbers: how many depends on the release.
    """
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and words[0] not in ("Routing", "Destination"):
            interface = next((word for word in words[3:] if not word.isdigit()), "")
            found.append((words[0], words[1], interface))
    return found


def _routes(text: str) -> frozenset[str]:
    return frozenset(
        f"{prefix} via {gateway} dev {interface}" for prefix, gateway, interface in routes_of(text)
    )


def _ports(text: str, pids: set[int] | None) -> frozenset[str]:
    """Return the sockets of `sockstat -46l`: of these processes, of all if None."""
    found = set()
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 5 and (pids is None or (words[2].isdigit() and int(words[2]) in pids)):
            found.add(f"{words[4]} port {words[5].rpartition(':')[2]}")
    return frozenset(found)


def _socket_files(root: str) -> frozenset[str]:
    found = set()
    for folder in _SOCKET_DIRS:
        for place, _, names in os.walk(root + folder):
            for name in names:
                path = os.path.join(place, name)
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.add(f"file {path.removeprefix(root)}")
    return frozenset(found)

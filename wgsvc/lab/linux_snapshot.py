"""
What there is on Linux at one moment, read from /proc and `ip -json`, for comparison.

What other people's processes do meanwhile is no business of the comparison: processes
and their sockets count when they are ours by descent or live in a host of the lab.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable

from wgsvc.lab.compare import Snapshot
from wgsvc.lab.linux_holder import Holder
from wgsvc.lab.linux_inhabitants import descendants, inhabitants, reap
from wgsvc.lab.linux_namespaces import namespaces_of

_SOCKET_DIRS = ("/var/run/wireguard", "/var/run/wgsvc")
_TCP_LISTEN = "0A"

RunIp = Callable[[list[str]], str]
"""Runs `ip` with these arguments where the snapshot is taken; returns its output."""


def inside(holder: Holder, ip: RunIp) -> Snapshot:
    """Return what there is in a host."""
    interfaces, routes = _interfaces(ip), _routes(ip)
    reap()
    pids = [pid for pid in inhabitants([holder]) if pid != holder.pid]
    proc = f"/proc/{holder.pid}"
    return Snapshot(
        processes=_named(pids),
        interfaces=interfaces,
        routes=routes,
        sockets=frozenset(line for _, line in _sockets(f"{proc}/net"))
        | _socket_files(f"{proc}/root/run"),
        namespaces=_namespaces([holder.pid, *pids]),
        mounts=_mounts(f"{proc}/mountinfo"),
    )


def outside(holders: Iterable[Holder], ip: RunIp) -> Snapshot:
    """Return what there is outside the hosts, and which processes of the lab there are."""
    interfaces, routes = _interfaces(ip), _routes(ip)
    reap()
    ours = {*descendants(), *inhabitants(holders)}
    foreign = _inodes_of_others(ours)
    files = frozenset[str]().union(*(_socket_files(folder) for folder in _SOCKET_DIRS))
    return Snapshot(
        processes=_named(ours),
        interfaces=interfaces,
        routes=routes,
        sockets=files
        | frozenset(line for inode, line in _sockets("/proc/self/net") if inode not in foreign),
        namespaces=_namespaces([os.getpid(), *ours]),
        mounts=_mounts("/proc/self/mountinfo"),
    )


def _named(pids: Iterable[int]) -> frozenset[str]:
    names = set()
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
            names.add(f"{pid} {b' '.join(words).decode(errors='replace')[:60]}")
    return frozenset(names)


def _interfaces(ip: RunIp) -> frozenset[str]:
    found = set()
    for interface in json.loads(ip(["-json", "address", "show"]) or "[]"):
        addresses = [f"{one['local']}/{one['prefixlen']}" for one in interface["addr_info"]]
        found.add(" ".join([interface["ifname"], *sorted(addresses)]))
    return frozenset(found)


def _routes(ip: RunIp) -> frozenset[str]:
    found = set()
    for version in ("-4", "-6"):
        for route in json.loads(ip([version, "-json", "route", "show", "table", "all"]) or "[]"):
            words = [route.get("type", "unicast"), route["dst"]]
            for key in ("gateway", "dev", "table"):
                words += [key, str(route[key])] if key in route else []
            found.add(" ".join(words))
    return frozenset(found)


def _sockets(folder: str) -> list[tuple[str, str]]:
    """Return (inode, line) of each socket that others can reach by a number or a name."""
    found = []
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for words in _table(f"{folder}/{kind}"):
            port = int(words[1].rpartition(":")[2], 16)
            if port and (kind.startswith("udp") or words[3] == _TCP_LISTEN):
                found.append((words[9], f"{kind} port {port}"))
    found += [
        (words[6], f"unix {words[7]}")
        for words in _table(f"{folder}/unix")
        if len(words) > 7 and words[5] == "01"  # a name, and somebody may connect to it
    ]
    return found


def _table(path: str) -> list[list[str]]:
    try:
        with open(path) as file:
            return [line.split() for line in file.readlines()[1:]]
    except OSError:  # no IPv6 here
        return []


def _socket_files(folder: str) -> frozenset[str]:
    found = set()
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.add(f"file {path.removeprefix(folder).lstrip('/')}")
    return frozenset(found)


def _inodes_of_others(ours: set[int]) -> set[str]:
    """
    Return the sockets that are none of ours.

    Where we may not look into other people's processes, all sockets that we don't hold
    ourselves are theirs.
    """
    held_by_us: set[str] = set()
    held_by_others: set[str] = set()
    blind = False
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        held = held_by_us if int(name) in ours else held_by_others
        try:
            descriptors = os.listdir(f"/proc/{name}/fd")
        except PermissionError:
            blind = True
            continue
        except OSError:
            continue
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{name}/fd/{descriptor}")
                if target.startswith("socket:["):
                    held.add(target[8:-1])
    if blind:
        everything = {inode for inode, _ in _sockets("/proc/self/net")}
        return everything - held_by_us
    return held_by_others - held_by_us


def _namespaces(pids: Iterable[int]) -> frozenset[str]:
    return frozenset[str]().union(*(namespaces_of(pid) for pid in pids))


def _mounts(path: str) -> frozenset[str]:
    found = set()
    with open(path) as file:
        for line in file:
            words = line.split()
            kind = words[words.index("-") + 1]
            found.add(f"{kind} on {words[4]}")
    return frozenset(found)

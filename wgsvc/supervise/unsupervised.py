"""
Tunnels that no supervisor runs: what is there of them, by the journals and by the kernel.

Looked at by commands where there is no supervisor, and by a supervisor for what it could not
adopt. Nothing is changed.
"""

from __future__ import annotations

import errno
import os

from wgsvc.errors import WgsvcError, shell_word
from wgsvc.light import TYPE_CHECKING, Any, NamedTuple
from wgsvc.report import snapshot
from wgsvc.supervise import journal
from wgsvc.supervise.client import journaled
from wgsvc.uapi.transport import GET, connect, exchange, socket_path

if TYPE_CHECKING:
    from collections.abc import Collection

    from wgsvc.loop import Loop
    from wgsvc.settings import Settings
    from wgsvc.system.base import Interface, System
    from wgsvc.uapi.parse import DeviceState

ANSWER_TIMEOUT_S = 2.0


class Found(NamedTuple):
    """
    What there is under a name.

    `aside`: a journal of it was set aside. `hidden`: its journal may not be read by this user.
    `pid` is who serves WireGuard's socket: None for nobody, 0 for somebody who may not be asked.
    """

    name: str
    noted: journal.Reading
    aside: bool
    hidden: bool
    interface: Interface | None
    pid: int | None

    @property
    def runs(self) -> bool:
        """Whether this is WireGuard, and for all that can be seen passes packets."""
        if self.interface is None:
            return False
        return self.interface.kind == "wireguard" or self.pid is not None


def look(system: System, settings: Settings, name: str) -> Found:
    """Return what there is under a name."""
    path = journal.path_of(settings.run_dir, name)
    return Found(
        name,
        journal.examine(path, name, system.boot_id()),
        aside=bool(journal.aside(settings.run_dir, name)),
        hidden=os.path.lexists(path) and os.geteuid() != 0 and not os.access(path, os.R_OK),
        interface=system.interface(name),
        pid=_served_by(system, socket_path(settings.uapi_dir, name)),
    )


def _served_by(system: System, path: str) -> int | None:
    try:
        connection = connect(path)
    except WgsvcError as error:
        # A full queue is that of a wireguard-go that is stopped; the others are root's.
        somebody = getattr(error, "errno", 0) in (errno.EAGAIN, errno.EACCES, errno.EPERM)
        return 0 if somebody else None
    try:
        return system.peer_pid(connection)
    except WgsvcError:  # a kernel that does not tell
        return 0
    finally:
        connection.close()


def left(system: System, settings: Settings, *, supervised: Collection[str] = ()) -> list[str]:
    """Return the tunnels of ours that run without a supervisor, or of which something is left."""
    return [
        name
        for name in journaled(settings.run_dir, aside=True)
        if name not in supervised and is_left(system, settings, look(system, settings, name))
    ]


def is_left(system: System, settings: Settings, found: Found) -> bool:
    """
    Whether something of ours is there, or was noted and not undone.

    A journal that can't be removed (its file system is read-only) may speak of what is gone:
    there the kernel has the last word.
    """
    entry = found.noted.entry
    if found.hidden or found.noted.wrong:
        return True
    if entry is None:  # there is none, or it is another boot's
        return found.aside and found.runs
    there = found.interface is not None and found.interface.ifindex == entry.ifindex
    if there or found.pid is not None or not os.statvfs(settings.run_dir).f_flag & os.ST_RDONLY:
        return True
    pins = {pin.prefix for pin in entry.pins}
    routed = pins and {route.prefix for route in system.routes(table=system.default_table)}
    return bool(routed and pins & routed) or bool(
        entry.rules and system.rules_in_force(entry.full_table, entry.rules)
    )


def reason(system: System, settings: Settings, found: Found) -> str:
    """Return why a tunnel is unsupervised and what to type; also why a name is taken; else ""."""
    name = shell_word(found.name)
    if not is_left(system, settings, found):
        if found.runs:
            return f"not started by wgsvc; wgsvc stop {name} takes it down"
        return f"there is an interface {name} of another program" if found.interface else ""
    if found.noted.wrong or (found.aside and found.noted.entry is None):
        kept = journal.path_of(settings.run_dir, found.name)
        kept += "" if found.noted.wrong else journal.BAD
        return f"what was noted of it in {kept} can't be used; wgsvc restart {name} has it anew"
    if found.runs or found.hidden:
        return f"its supervisor is gone; wgsvc start {name} takes it over"
    return (
        "its supervisor is gone, and WireGuard too; "
        f"wgsvc start {name} has it anew, wgsvc stop {name} clears up"
    )


async def table(loop: Loop, system: System, settings: Settings, name: str) -> dict[str, Any]:
    """Return what status tells of a tunnel that no supervisor runs: `unsupervised` or `down`."""
    found = look(system, settings, name)
    why = reason(system, settings, found)
    if not found.runs and not is_left(system, settings, found):
        return snapshot.tunnel_table(name, reason=why)
    entry, interface = found.noted.entry, found.interface
    state, problem = await _state(loop, settings, found)
    return snapshot.tunnel_table(
        name,
        state="unsupervised",
        reason=f"{why} ({problem})" if problem else why,
        since=entry.since or None if entry else None,
        backend=entry.backend if entry else "wireguard-go" if found.pid is not None else None,
        ifindex=interface.ifindex if interface else None,
        mtu=interface.mtu if interface else None,
        addresses=[str(address) for address in interface.addresses] if interface else [],
        config=entry.path or None if entry else None,
        children=[snapshot.child_table("wireguard-go", found.pid)] if found.pid else [],
        **snapshot.device_table(state, _known(settings, entry.path if entry else name)),
    )


async def _state(loop: Loop, settings: Settings, found: Found) -> tuple[DeviceState | None, str]:
    """Return what wireguard-go says of itself, and why it does not if it doesn't."""
    if found.pid is None:
        return None, ""
    from wgsvc.uapi.parse import parse_device

    path = socket_path(settings.uapi_dir, found.name)
    try:
        answer = await exchange(loop, path, GET, timeout_s=ANSWER_TIMEOUT_S)
        return parse_device(answer, path), ""
    except WgsvcError as error:
        if getattr(error, "errno", 0) in (errno.EACCES, errno.EPERM):
            return None, "its peers are shown to root alone"
        return None, error.message


def _known(settings: Settings, what: str) -> dict[bytes, tuple[str, str | None]]:
    """Return the names and endpoints that the file gives to peers, as far as it can be read."""
    from wgsvc.files import load

    tunnel = load(what, settings).tunnel
    return snapshot.known_peers(tunnel.peers) if tunnel else {}

"""
What earlier runs left behind under a tunnel's name, and whose it is.

Ours is what a journal of this boot proves, or a tun that nobody has open beside a dead
socket of wireguard-go. Everything else is foreign: reported, and left alone. Of a journal that
was set aside the fields count that can be believed; whether its tunnel runs, the kernel
and WireGuard's socket say.
"""

from __future__ import annotations

import contextlib
import os

from wgsvc.config.model import Tunnel
from wgsvc.errors import NameTakenError, OSFailureError, StepsFailedError
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise import journal
from wgsvc.supervise.context import Timings
from wgsvc.supervise.down import recorded_tunnel, take_down
from wgsvc.supervise.live import Live
from wgsvc.uapi.transport import connect, socket_path

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context, Say
    from wgsvc.system.base import Interface


async def clear(context: Context, name: str, say: Say) -> bool:
    """
    Remove what a crash left of tunnel `name`; return whether there was anything.

    Raises: NameTakenError if it runs, and its journal was set aside: only a stop may end it
    then. WgsvcError if some of it resists.
    """
    live = find(context, name)
    if live is None:
        aside = journal.aside(context.settings.run_dir, name)
        if aside and _running(context, name, _set_aside(context, name)):
            raise NameTakenError(
                f"{name} runs, but what wgsvc had noted of it can't be used: it is kept as {aside}",
                cure=f"to have it anew, by its file: wgsvc restart {name}",
            )
        return False
    say(f"[#] # {name}: removing what an earlier run left behind")
    errors = await take_down(context, live, say, Timings(), reason="crash")
    if errors:
        raise StepsFailedError(errors) if len(errors) > 1 else errors[0]
    return True


def find(context: Context, name: str) -> Live | None:
    """Return what is there of a tunnel that no daemon runs, None if nothing of ours is."""
    reading = journal.take(context.settings.run_dir, name, context.boot_id)
    entry = None if reading.wrong else reading.entry
    found = context.system.interface(name)
    path = socket_path(context.settings.uapi_dir, name)
    if entry is None:
        noted = _set_aside(context, name)
        if noted is not None and _running(context, name, noted) is None:
            entry = noted
    if entry is not None:
        live = Live(recorded_tunnel(entry), entry.backend)
        _remember(context, live, entry)
        live.kernel_name = entry.kernel_name
        if found is not None and found.ifindex == entry.ifindex:
            live.ifindex = entry.ifindex
        elif found is not None and not entry.ifindex and _nobodys(found, path):
            live.ifindex = found.ifindex
        from wgsvc.supervise.adopt import proven

        live.daemon = proven(context, entry.pid, entry.start_id)
        return live
    if context.system.abandoned(name):
        return _orphan(context, name, 0)  # take_down looks for these by itself
    if found is None:
        if _stale(path):
            with contextlib.suppress(OSError):
                os.unlink(path)
        return None
    return _orphan(context, name, found.ifindex) if _nobodys(found, path) else None


def find_running(context: Context, name: str) -> Live | None:
    """
    Return what runs without a journal of ours, for an explicit stop.

    It is wg-quick's, or ours after somebody emptied the run directory, or its journal was set
    aside.
    """
    noted = _set_aside(context, name)
    running = _running(context, name, noted)
    if running is None:
        return None
    ifindex, pid = running
    live = _orphan(context, name, ifindex)
    if pid:
        from wgsvc.supervise.adopt import proven

        live.daemon = proven(context, pid, context.system.start_id(pid) or "")
    else:
        live.backend = "kernel"
    if noted is not None:
        live.tunnel = recorded_tunnel(noted)
        _remember(context, live, noted)
    return live


def _running(context: Context, name: str, noted: journal.Entry | None) -> tuple[int, int] | None:
    """
    Return the interface's index and wireguard-go's PID, if there is one that runs.

    The PID is the one that WireGuard's own socket names; it is 0 for the kernel's WireGuard,
    which can be anybody's: only what was noted of it proves that it is ours.
    """
    found = context.system.interface(name)
    if found is None:
        return None
    if found.kind == "wireguard":
        ours = noted is not None and (noted.backend, noted.ifindex) == ("kernel", found.ifindex)
        return (found.ifindex, 0) if ours else None
    from wgsvc.supervise.adopt import alive

    pid = alive(context, name) if found.kind == "tun" else None
    return None if pid is None else (found.ifindex, pid)


def _set_aside(context: Context, name: str) -> journal.Entry | None:
    """Return what can be believed of a journal that was set aside."""
    return journal.salvage(context.settings.run_dir, name, context.boot_id)


def _remember(context: Context, live: Live, entry: journal.Entry) -> None:
    """Have a stop undo what a journal says that was done beside the interface."""
    live.pins = {route.prefix: route for route in entry.pins}
    live.dns = entry.dns
    live.full_table, live.valid_mark = entry.full_table, entry.valid_mark
    live.filtered = entry.filtered
    live.ruled = entry.rules or context.system.find_rules(entry.full_table)


def _orphan(context: Context, name: str, ifindex: int) -> Live:
    live = Live(Tunnel(name), "wireguard-go")
    live.ifindex = ifindex
    live.kernel_name = name if context.system.name == "linux" else ""
    return live


def _nobodys(found: Interface, path: str) -> bool:
    """Whether an interface is a tun that nobody has open, beside a dead socket of its name."""
    return found.kind == "tun" and os.path.exists(path) and _stale(path) and not found.opener_pid


def _stale(path: str) -> bool:
    """Whether a socket is there that nobody answers."""
    import errno

    try:
        connect(path).close()
    except OSFailureError as error:
        return error.errno == errno.ECONNREFUSED
    return False

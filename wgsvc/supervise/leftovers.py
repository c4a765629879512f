"""
What earlier runs left behind under a tunnel's name, and whose it is.

Ours is what a journal of this boot proves, or a tun that nobody has open beside a dead
socket of wireguard-go. Everything else is foreign: reported, and left alone.
"""

from __future__ import annotations

import contextlib
import os

from wgsvc.errors import OSFailureError, StepsFailedError
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise import journal
from wgsvc.supervise.context import Timings
from wgsvc.supervise.down import recorded_tunnel, take_down
from wgsvc.supervise.live import Live
from wgsvc.uapi.transport import connect, socket_path

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context, Say


async def clear(context: Context, name: str, say: Say) -> bool:
    """
    Remove what a crash left of tunnel `name`; return whether there was anything.

    Raises: WgsvcError if some of it resists.
    """
    live = find(context, name)
    if live is None:
        return False
    say(f"[#] # {name}: removing what an earlier run left behind")
    errors = await take_down(context, live, say, Timings(), reason="crash")
    if errors:
        raise StepsFailedError(errors) if len(errors) > 1 else errors[0]
    return True


def find(context: Context, name: str) -> Live | None:
    """Return what is there of a tunnel that no daemon runs, None if nothing of ours is."""
    entry = journal.read(context.settings.run_dir, name, context.boot_id)
    found = context.system.interface(name)
    path = socket_path(context.settings.uapi_dir, name)
    if entry is not None:
        live = Live(recorded_tunnel(entry), entry.backend)
        live.pins = {route.prefix: route for route in entry.pins}
        live.dns = entry.dns
        live.full_table, live.valid_mark = entry.full_table, entry.valid_mark
        live.filtered = entry.filtered
        live.ruled = entry.rules or context.system.find_rules(entry.full_table)
        live.kernel_name = entry.kernel_name
        if found is not None and found.ifindex == entry.ifindex:
            live.ifindex = entry.ifindex
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
    if found.kind != "tun" or not os.path.exists(path):
        return None
    if _stale(path) and not found.opener_pid:
        return _orphan(context, name, found.ifindex)
    return None


def find_running(context: Context, name: str) -> Live | None:
    """
    Return a wireguard-go that runs without a journal of ours, for an explicit stop.

    wg-quick's, or ours after somebody emptied the run directory: its PID is the one that
    its own socket names.
    """
    found = context.system.interface(name)
    if found is None or found.kind != "tun":
        return None
    from wgsvc.supervise.adopt import alive, proven

    pid = alive(context, name)
    if pid is None:
        return None
    live = _orphan(context, name, found.ifindex)
    live.daemon = proven(context, pid, context.system.start_id(pid) or "")
    return live


def _orphan(context: Context, name: str, ifindex: int) -> Live:
    from wgsvc.config.model import Tunnel

    live = Live(Tunnel(name), "wireguard-go")
    live.ifindex = ifindex
    live.kernel_name = name if context.system.name == "linux" else ""
    return live


def _stale(path: str) -> bool:
    """Whether a socket is there that nobody answers."""
    import errno

    try:
        connect(path).close()
    except OSFailureError as error:
        return error.errno == errno.ECONNREFUSED
    return False

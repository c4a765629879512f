"""Reading all that a running tunnel consists of, and telling what of it is not as applied."""

from __future__ import annotations

from wgsvc.config.model import TABLE_OFF
from wgsvc.config.x25519 import public_key
from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.reload import Observed
from wgsvc.plan.running import running_tunnel
from wgsvc.supervise import device

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live


async def observe(context: Context, live: Live, *, timeout_s: float | None = None) -> Observed:
    """
    Read everything that a tunnel consists of.

    Raises: WgsvcError.
    """
    await device.get(context, live, timeout_s=timeout_s)
    return observed(context, live)


def observed(context: Context, live: Live) -> Observed:
    """
    Return what `live.last_seen` and the kernel show.

    Raises: WgsvcError.
    """
    found = context.system.interface(live.name)
    if found is None or found.ifindex != live.ifindex or live.last_seen is None:
        raise WgsvcError(f"{live.name} is not there any more", cure=f"wgsvc restart {live.name}")
    table = live.tunnel.table
    routes = [] if table == TABLE_OFF else context.system.routes(ifindex=live.ifindex, table=table)
    return Observed(
        live.last_seen,
        found.addresses,
        frozenset(route.prefix for route in routes),
        found.mtu,
        context.system.rules_in_force(live.full_table, live.ruled) if live.ruled else (),
    )


def running(live: Live, seen: Observed) -> Tunnel:
    """Return what runs as a file; `live.settled` itself if nothing has changed since."""
    settled = live.settled

    def found(own_key: bytes) -> Tunnel:
        return running_tunnel(
            settled, seen, mtu=live.mtu, port=live.port, mark=live.full_table, own_key=own_key
        )

    now = found(b"")
    if now.peers is settled.peers or settled.private_key is None:
        return now
    # A peer that seems to be missing may be our own key, which WireGuard ignores.
    here = {peer.public_key for peer in now.peers}
    missing = any(peer.public_key not in here for peer in settled.peers)
    return found(public_key(settled.private_key)) if missing else now


async def settle(context: Context, live: Live) -> None:
    """
    Take what runs now for what was applied: after hooks, which may have done a part of it.

    Raises: WgsvcError.
    """
    take_for_applied(live, await observe(context, live))
    if live.pins:
        there = {
            route.prefix for route in context.system.routes(table=context.system.default_table)
        }
        live.unpinned = frozenset(live.pins) - there
        live.pins = {prefix: pin for prefix, pin in live.pins.items() if prefix in there}


def take_for_applied(live: Live, seen: Observed) -> None:
    """Take what was seen for what was applied, what is missing too: a hook took it away."""
    live.hooked = None
    now = running(live, seen)
    live.hooked = None if now is live.tunnel else now
    live.taken = frozenset(route.prefix for route in live.routes()) - seen.routed
    live.unruled = tuple(pair.version for pair in live.ruled if pair.version not in seen.ruled)

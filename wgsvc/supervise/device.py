"""The WireGuard of a tunnel, read and set through whichever back end it has."""

from __future__ import annotations

import time

from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.reload import whole_peer
from wgsvc.supervise import wireguard_go
from wgsvc.uapi.encode import DeviceChange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wgsvc.config.model import Tunnel
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live
    from wgsvc.uapi.encode import PeerChange
    from wgsvc.uapi.parse import DeviceState
    from wgsvc.values import Endpoint


def answers(live: Live) -> bool:
    """Whether there is somebody to ask who has been set: an empty device would say: no peers."""
    if not live.is_set:
        return False
    if live.backend == "kernel":
        return live.ifindex != 0
    return live.daemon is not None and not live.daemon.exited.done


async def get(context: Context, live: Live, *, timeout_s: float | None = None) -> DeviceState:
    """
    Ask for everything it knows; `live.last_seen` is that from now on.

    Raises: OSFailureError, TimeoutExpiredError, ProtocolError, UnavailableError (no wg(8)).
    """
    if live.backend == "kernel":
        from wgsvc.supervise import kernel_wg

        live.last_seen = await kernel_wg.get(context, live.name, timeout_s=timeout_s)
    else:
        live.last_seen = await wireguard_go.get(
            context, live.name, before=live.last_seen, timeout_s=timeout_s
        )
    live.seen_mono = time.monotonic()
    return live.last_seen


async def recent(context: Context, live: Live, age_s: float) -> DeviceState:
    """
    Return what it said at most `age_s` ago, asking only if that is too old.

    Raises: as `get`.
    """
    if live.last_seen is not None and time.monotonic() - live.seen_mono < age_s:
        return live.last_seen
    return await get(context, live)


async def configure(context: Context, live: Live, change: DeviceChange) -> None:
    """
    Set something. Not transactional: what came before an error stays.

    Raises: as `get`.
    """
    if live.backend == "kernel":
        from wgsvc.supervise import kernel_wg

        now = None if change.replace_peers else await get(context, live)
        await kernel_wg.configure(context, live.name, change, now)
    else:
        await wireguard_go.configure(context, live.name, change)


async def turn(context: Context, live: Live, keepalives: Sequence[PeerChange]) -> None:
    """
    Set keepalives, one after the other, also of one peer, and nothing else.

    Raises: as `get`.
    """
    if live.backend == "kernel":
        from wgsvc.supervise import kernel_wg

        await kernel_wg.set_keepalives(context, live.name, keepalives)
    else:
        await wireguard_go.configure(context, live.name, DeviceChange(peers=tuple(keepalives)))


def whole(live: Live, tunnel: Tunnel) -> DeviceChange:
    """
    Return everything of a tunnel as one request for an empty device.

    The endpoints that peers had roamed to before a crash go before those of the file; a name whose
    address is not known is left out, and follows when it is.
    """
    at: dict[bytes, Endpoint | None] = {
        **live.remembered(tunnel),
        **live.resolved,
        **live.found,
    }
    live.resolved.update(live.found)
    live.found.clear()
    if live.last_seen is not None:
        at |= {peer.public_key: peer.endpoint for peer in live.last_seen.peers if peer.endpoint}
    return DeviceChange(
        private_key=tunnel.private_key,
        listen_port=tunnel.listen_port,
        fwmark=(live.full_table or None) if tunnel.fwmark is None else tunnel.fwmark,
        replace_peers=True,
        peers=tuple(whole_peer(peer, at.get(peer.public_key)) for peer in tunnel.peers),
    )

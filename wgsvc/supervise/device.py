"""A tunnel's file as the request that wireguard-go gets."""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.reload import whole_peer
from wgsvc.uapi.encode import DeviceChange

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.uapi.parse import DeviceState


def device_change(tunnel: Tunnel, last_seen: DeviceState | None = None) -> DeviceChange:
    """
    Return everything of the file as one request for an empty device.

    Endpoints that are names are left out: they follow as they resolve. `last_seen` gives the
    endpoints that peers had roamed to before a crash.
    """
    roamed = {}
    if last_seen is not None:
        roamed = {peer.public_key: peer.endpoint for peer in last_seen.peers}
    return DeviceChange(
        private_key=tunnel.private_key,
        listen_port=tunnel.listen_port,
        fwmark=tunnel.fwmark,
        replace_peers=True,
        peers=tuple(whole_peer(peer, roamed.get(peer.public_key)) for peer in tunnel.peers),
    )

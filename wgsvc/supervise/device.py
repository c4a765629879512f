"""A tunnel's file as the request that wireguard-go gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wgsvc.plan.start import host_prefix
from wgsvc.uapi.encode import DeviceChange, PeerChange

if TYPE_CHECKING:
    from wgsvc.config.model import Peer, Tunnel
    from wgsvc.uapi.parse import DeviceState
    from wgsvc.values import Endpoint


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
        peers=tuple(peer_change(peer, roamed.get(peer.public_key)) for peer in tunnel.peers),
    )


def peer_change(peer: Peer, roamed: Endpoint | None = None) -> PeerChange:
    """Return everything of one peer."""
    endpoint = roamed or peer.endpoint
    if endpoint is not None and host_prefix(endpoint.host) is None:
        endpoint = None
    return PeerChange(
        peer.public_key,
        preshared_key=peer.preshared_key,
        endpoint=endpoint,
        keepalive_s=peer.keepalive_s,
        replace_allowed_ips=True,
        allowed_ips=peer.allowed_ips,
    )

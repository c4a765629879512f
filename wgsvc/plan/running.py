"""What runs, as the file that would make it so."""

from __future__ import annotations

from wgsvc.config.model import Peer, Tunnel
from wgsvc.plan.reload import LINK_LOCAL, Observed
from wgsvc.plan.start import host_prefix
from wgsvc.uapi.parse import PeerState


def running_tunnel(
    applied: Tunnel, observed: Observed, *, mtu: int, port: int, mark: int = 0, own_key: bytes = b""
) -> Tunnel:
    """
    Return `applied` with what differs of it now; `applied` itself if nothing does.

    `mtu`, `port` and `mark` are those that were set or chosen when it came up: where the file
    names none, only another value is a difference. `own_key` is the interface's own public
    key: as a peer WireGuard ignores it. An endpoint that is a name stays one.
    """
    device = observed.device
    changed: dict[str, object] = {}
    if device.private_key != applied.private_key:
        changed["private_key"] = device.private_key
    if device.listen_port not in (applied.listen_port or port, 0):
        changed["listen_port"] = device.listen_port
    if device.fwmark != (mark if applied.fwmark is None else applied.fwmark):
        changed["fwmark"] = device.fwmark
    if observed.mtu != (applied.mtu or mtu):
        changed["mtu"] = observed.mtu
    addresses = tuple(
        address
        for address in observed.addresses
        if address in applied.addresses or not LINK_LOCAL.covers(address)
    )
    if set(addresses) != set(applied.addresses):
        changed["addresses"] = addresses
    peers = _peers(applied, device.peers, own_key)
    if peers is not applied.peers:
        changed["peers"] = peers
    return applied._replace(**changed) if changed else applied  # type: ignore[arg-type]


def _peers(applied: Tunnel, states: tuple[PeerState, ...], own_key: bytes) -> tuple[Peer, ...]:
    seen = {state.public_key: state for state in states}
    peers = []
    same = True
    for peer in applied.peers:
        state = seen.pop(peer.public_key, None)
        if state is not None:
            now = _peer(peer, state)
            same = same and now is peer
            peers.append(now)
        elif peer.public_key == own_key:
            peers.append(peer)
        else:
            same = False
    peers += [_peer(Peer(key), seen[key]) for key in sorted(seen)]  # wireguard-go has no order
    return applied.peers if same and not seen else tuple(peers)


def _peer(peer: Peer, state: PeerState) -> Peer:
    changed: dict[str, object] = {}
    if state.preshared_key != peer.preshared_key:
        changed["preshared_key"] = state.preshared_key
    if state.keepalive_s != (peer.keepalive_s or 0):
        changed["keepalive_s"] = state.keepalive_s
    named = peer.endpoint is not None and host_prefix(peer.endpoint.host) is None
    if state.endpoint not in (None, peer.endpoint) and not named:
        changed["endpoint"] = state.endpoint
    if state.allowed_ips != peer.allowed_ips and set(state.allowed_ips) != set(peer.allowed_ips):
        changed["allowed_ips"] = state.allowed_ips
    return peer._replace(**changed) if changed else peer  # type: ignore[arg-type]

"""
One tunnel, one daemon, as plain data: what status shows and what JSON holds.

The JSON's shape: `schema`, `supervisor` {`pid`, `since`, `version`} or null, `tunnels` [{`name`,
`state`, `reason`, `since`, `children` [{`role`, `pid`, `adopted`}], `peers` [...], ...}]. Every
tunnel has the same keys, whatever its state, and so has every peer. Times are UNIX times in
seconds; what is not known or not there is null. No secret is in it.
"""

from __future__ import annotations

import time

from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wgsvc.config.model import Peer
    from wgsvc.uapi.parse import DeviceState, PeerState

SCHEMA = 1
HANDSHAKE_FRESH_S = 180.0
"""Older than this the session is dead: WireGuard's REJECT_AFTER_TIME."""


def tunnel_table(name: str, **known: Any) -> dict[str, Any]:
    """Return all that is told of a tunnel; what is not `known` is as for one that is down."""
    table: dict[str, Any] = {
        "name": name,
        "state": "down",
        "reason": "",
        "degraded": False,
        "drift": False,
        "waiting_for": [],
        "since": None,
        "backend": None,
        "ifindex": None,
        "mtu": None,
        "addresses": [],
        "config": None,
        "children": [],
        "deaths": 0,
        **device_table(None, {}),
    }
    if not table.keys() >= known.keys():
        raise TypeError("a tunnel has no such fields")
    return table | known


def child_table(role: str, pid: int, *, adopted: bool = False) -> dict[str, Any]:
    """Return one process as data; an adopted one was started by an earlier supervisor."""
    return {"role": role, "pid": pid, "adopted": adopted}


def peer_table(
    peer: PeerState, name: str, wanted_endpoint: str | None, unresolved_since: float | None = None
) -> dict[str, Any]:
    """Return one peer as data; `wanted_endpoint` is the file's."""
    import base64

    return {
        "public_key": base64.b64encode(peer.public_key).decode(),
        "name": name,
        "endpoint": str(peer.endpoint) if peer.endpoint else None,
        "configured_endpoint": wanted_endpoint,
        "unresolved": peer.endpoint is None and wanted_endpoint is not None,
        "unresolved_since": unresolved_since,
        "last_handshake": peer.last_handshake_s or None,
        "rx_bytes": peer.rx_bytes,
        "tx_bytes": peer.tx_bytes,
        "keepalive_s": peer.keepalive_s or None,
        "preshared_key": peer.preshared_key is not None,
        "allowed_ips": [str(prefix) for prefix in peer.allowed_ips],
    }


def known_peers(peers: Iterable[Peer]) -> dict[bytes, tuple[str, str | None]]:
    """Return the name and the endpoint of each public key of a file, in its order."""
    return {
        peer.public_key: (peer.name, str(peer.endpoint) if peer.endpoint else None)
        for peer in peers
    }


def device_table(
    state: DeviceState | None,
    known: Mapping[bytes, tuple[str, str | None]],
    unresolved: Mapping[bytes, float] | None = None,
) -> dict[str, Any]:
    """
    Return what a device adds to its tunnel's data.

    `known` is what the file says of peers. They come in its order, then those that are not in
    the file, by key: wireguard-go itself has no order. `unresolved` says since when no address
    is known for a peer's name.
    """
    if state is None:
        return {"listen_port": None, "fwmark": None, "peers": []}
    since = unresolved or {}
    place = {key: number for number, key in enumerate(known)}
    peers = sorted(
        state.peers, key=lambda peer: (place.get(peer.public_key, len(place)), peer.public_key)
    )
    return {
        "listen_port": state.listen_port or None,
        "fwmark": state.fwmark or None,
        "peers": [
            peer_table(peer, *known.get(peer.public_key, ("", None)), since.get(peer.public_key))
            for peer in peers
        ],
    }


def peers_up(tunnel: Mapping[str, Any], now_s: float | None = None) -> int:
    """Return how many peers have a session."""
    now_s = time.time() if now_s is None else now_s
    return sum(
        1
        for peer in tunnel["peers"]
        if peer["last_handshake"] and now_s - peer["last_handshake"] < HANDSHAKE_FRESH_S
    )


def exit_status(tunnels: list[Mapping[str, Any]]) -> int:
    """Return 0 if all are up, 1 if some are failed or degraded, else 3 (not running)."""
    states = [tunnel["state"] for tunnel in tunnels]
    if any(state not in ("up", "down") for state in states):
        return 1
    if not states or "down" in states:
        return 3
    return 1 if any(tunnel.get("degraded") for tunnel in tunnels) else 0

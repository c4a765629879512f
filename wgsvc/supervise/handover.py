"""
Checked files as bytes, from the command that read them to the daemon it has just forked.

Not a protocol: both ends are one program in one version, joined by a socket pair that
nobody else has. `marshal` is built in and does 5 000 AllowedIPs in 1 ms; reading the file
again in the daemon takes ten times as long, and it may be another file by then.
"""

from __future__ import annotations

import marshal

from wgsvc.config.model import Hooks, Peer, Tunnel
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.values import Endpoint, Prefix, SecretKey

if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterable, Mapping

LENGTH_BYTES = 8


def send(connection: _socket.socket, checked: Mapping[str, Tunnel]) -> None:
    """Hand over files. Raises: OSError if nobody takes them."""
    data = marshal.dumps([_plain(tunnel) for tunnel in checked.values()])
    connection.sendall(len(data).to_bytes(LENGTH_BYTES, "big") + data)


def receive(connection: _socket.socket) -> dict[str, Tunnel] | None:
    """Return the files by interface; None if the other end has hung up without any."""
    head = _read(connection, LENGTH_BYTES)
    if head is None:
        return None
    data = _read(connection, int.from_bytes(head, "big"))
    if data is None:
        return None
    tunnels = [_tunnel(*plain) for plain in marshal.loads(data)]  # noqa: S302 - from our own parent
    return {tunnel.name: tunnel for tunnel in tunnels}


def _read(connection: _socket.socket, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        chunk = connection.recv(min(length - len(data), 1 << 18))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def _plain(tunnel: Tunnel) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a tunnel without any class of ours, which marshal does not take."""
    fields = tunnel._asdict()
    del fields["peers"]
    fields["private_key"] = _bytes(tunnel.private_key)
    fields["addresses"] = _tuples(tunnel.addresses)
    fields["hooks"] = tuple(tunnel.hooks)
    fields["routes"] = _tuples(tunnel.routes)
    peers = []
    for peer in tunnel.peers:
        plain = peer._asdict()
        plain["preshared_key"] = _bytes(peer.preshared_key)
        plain["endpoint"] = peer.endpoint and tuple(peer.endpoint)
        plain["allowed_ips"] = _tuples(peer.allowed_ips)
        plain["routes"] = _tuples(peer.routes)
        peers.append(plain)
    return fields, peers


def _bytes(key: SecretKey | None) -> bytes | None:
    return None if key is None else bytes(key)


def _tuples(prefixes: Iterable[Prefix] | None) -> tuple[tuple[int, ...], ...] | None:
    return None if prefixes is None else tuple(map(tuple, prefixes))


def _tunnel(fields: dict[str, Any], peers: list[dict[str, Any]]) -> Tunnel:
    fields["private_key"] = _key(fields["private_key"])
    fields["addresses"] = _prefixes(fields["addresses"])
    fields["hooks"] = Hooks(*fields["hooks"])
    fields["routes"] = _prefixes(fields["routes"])
    return Tunnel(**fields, peers=tuple(map(_peer, peers)))


def _peer(fields: dict[str, Any]) -> Peer:
    fields["preshared_key"] = _key(fields["preshared_key"])
    fields["endpoint"] = fields["endpoint"] and Endpoint(*fields["endpoint"])
    fields["allowed_ips"] = _prefixes(fields["allowed_ips"])
    fields["routes"] = _prefixes(fields["routes"])
    return Peer(**fields)


def _key(key: bytes | None) -> SecretKey | None:
    return None if key is None else SecretKey(key)


def _prefixes(tuples: Iterable[tuple[int, int, int]] | None) -> tuple[Prefix, ...] | None:
    return None if tuples is None else tuple(map(Prefix._make, tuples))

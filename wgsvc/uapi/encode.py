"""
Typed values into the lines of a `set` request, and nothing else on the wire.

Every value is rebuilt from a key, a number, a prefix or a numeric endpoint; a text from
a file never reaches the socket. A line protocol spoken as root is how others got CVEs.
"""

from __future__ import annotations

from collections.abc import Iterator

from wgsvc.errors import WgsvcError
from wgsvc.light import NamedTuple
from wgsvc.values import KEY_LENGTH, Endpoint, Prefix, SecretKey

NO_KEY = bytes(KEY_LENGTH)


class PeerChange(NamedTuple):
    """What to set of one peer; None leaves a value as it is."""

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    preshared_key: bytes | None = None  # NO_KEY clears it
    endpoint: Endpoint | None = None  # numeric
    keepalive_s: int | None = None
    replace_allowed_ips: bool = False
    allowed_ips: tuple[Prefix, ...] = ()
    dropped_ips: tuple[Prefix, ...] = ()  # wireguard-go of May 2025 and later


class DeviceChange(NamedTuple):
    """What to set of a device; None leaves a value as it is. No peers: none is touched."""

    private_key: SecretKey | None = None
    listen_port: int | None = None  # any line of it makes wireguard-go rebind its sockets
    fwmark: int | None = None
    replace_peers: bool = False
    peers: tuple[PeerChange, ...] = ()


def encode(change: DeviceChange) -> bytes:
    """
    Return the whole request.

    Raises: WgsvcError if a value is not what its type promises.
    """
    lines = ["set=1", *_device_lines(change)]
    for peer in change.peers:
        lines.extend(_peer_lines(peer))
    text = "\n".join(lines)
    # Counted, since a line end within a value would be a line of the request.
    one_line_each = text.count("\n") == len(lines) - 1
    if not one_line_each or not text.isascii() or not text.replace("\n", "").isprintable():
        raise WgsvcError("a control character in a value for wireguard-go")
    return text.encode() + b"\n\n"


def _device_lines(change: DeviceChange) -> Iterator[str]:
    if change.private_key is not None:
        yield f"private_key={_hex(change.private_key)}"
    if change.listen_port is not None:
        yield f"listen_port={int(change.listen_port)}"
    if change.fwmark is not None:
        yield f"fwmark={int(change.fwmark)}"
    if change.replace_peers:
        yield "replace_peers=true"


def _peer_lines(peer: PeerChange) -> Iterator[str]:
    yield f"public_key={_hex(peer.public_key)}"
    if peer.remove:
        yield "remove=true"
        return
    if peer.update_only:
        yield "update_only=true"
    if peer.preshared_key is not None:
        yield f"preshared_key={_hex(peer.preshared_key)}"
    if peer.endpoint is not None:
        yield f"endpoint={_numeric(peer.endpoint)}"
    if peer.keepalive_s is not None:
        yield f"persistent_keepalive_interval={int(peer.keepalive_s)}"
    if peer.replace_allowed_ips:
        yield "replace_allowed_ips=true"
    for prefix in peer.allowed_ips:
        yield f"allowed_ip={prefix}"
    for prefix in peer.dropped_ips:
        yield f"allowed_ip=-{prefix}"


def _hex(key: bytes) -> str:
    if len(key) != KEY_LENGTH:
        raise WgsvcError(f"a key of {len(key)} bytes")
    return key.hex()


def _numeric(endpoint: Endpoint) -> str:
    # Letters g-z would be a name, which wireguard-go does not resolve; a scope has any.
    host = endpoint.host.partition("%")[0]
    if not host or host.strip("0123456789abcdefABCDEF.:"):
        raise WgsvcError("an endpoint that is not numeric")
    return str(Endpoint(endpoint.host, int(endpoint.port)))

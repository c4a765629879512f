"""The answer of a `get` into values, and the errno of any answer."""

from __future__ import annotations

from wgsvc.errors import OSFailureError, ProtocolError
from wgsvc.light import NamedTuple
from wgsvc.uapi.encode import NO_KEY
from wgsvc.values import Endpoint, Prefix, SecretKey


class PeerState(NamedTuple):
    """A peer as wireguard-go (or the kernel) has it now."""

    public_key: bytes
    preshared_key: SecretKey | None
    endpoint: Endpoint | None
    keepalive_s: int
    last_handshake_s: float  # UNIX time, 0 for never
    rx_bytes: int
    tx_bytes: int
    allowed_ips: tuple[Prefix, ...]


class DeviceState(NamedTuple):
    """A device as wireguard-go (or the kernel) has it now."""

    private_key: SecretKey | None
    listen_port: int
    fwmark: int
    peers: tuple[PeerState, ...]
    texts: tuple[bytes, ...] = ()  # the lines of each peer, to know it again; keys are in them


def check_errno(answer: bytes, subject: str) -> None:
    """
    Look at the closing `errno=N` of an answer.

    Raises: OSFailureError if N is not 0 (the specification has it positive, wireguard-go
    sends it negative: ipc/uapi_unix.go), ProtocolError if there is none.
    """
    tail = answer.rstrip(b"\n").rpartition(b"\n")[2]
    key, _, value = tail.partition(b"=")
    if key != b"errno":
        raise ProtocolError(f"{subject}: an answer without an errno")
    try:
        number = abs(int(value))
    except ValueError:
        raise ProtocolError(f"{subject}: an errno that is no number") from None
    if number:
        raise OSFailureError("UAPI", subject, number)


def parse_device(answer: bytes, subject: str, before: DeviceState | None = None) -> DeviceState:
    """
    Return what a `get` answered.

    A peer whose lines are those of `before` is taken from there: of 10 000 peers that is most,
    and a fifth of the time. Unknown keys are passed over, as the protocol asks.

    Raises: OSFailureError, ProtocolError.
    """
    check_errno(answer, subject)
    body = answer.rstrip(b"\n").rpartition(b"\n")[0]
    head, *texts = (b"\n" + body).split(b"\npublic_key=")
    known = dict(zip(before.texts, before.peers, strict=True)) if before is not None else {}
    try:
        device = _fields(head)
        return DeviceState(
            _secret(device.get("private_key")),
            int(device.get("listen_port", 0)),
            int(device.get("fwmark", 0)),
            tuple([known.get(text) or _peer(text) for text in texts]),
            tuple(texts),
        )
    except ValueError as error:
        # Not the line itself: it may be a key.
        raise ProtocolError(f"{subject}: {type(error).__name__} in its answer") from None


def _fields(text: bytes) -> dict[str, str]:
    return {
        key: value for key, _, value in (line.partition("=") for line in text.decode().split("\n"))
    }


def _peer(text: bytes) -> PeerState:
    key, *lines = text.decode("ascii").split("\n")
    fields: dict[str, str] = {}
    prefixes: list[Prefix] = []
    for line in lines:
        name, _, value = line.partition("=")
        if name == "allowed_ip":
            prefixes.append(prefix_of(value))
        else:
            fields[name] = value
    seconds = int(fields.get("last_handshake_time_sec", 0))
    nanoseconds = int(fields.get("last_handshake_time_nsec", 0))
    endpoint = fields.get("endpoint")
    return PeerState(
        bytes.fromhex(key),
        _secret(fields.get("preshared_key")),
        endpoint_of(endpoint) if endpoint else None,
        int(fields.get("persistent_keepalive_interval", 0)),
        seconds + nanoseconds / 1e9,
        int(fields.get("rx_bytes", 0)),
        int(fields.get("tx_bytes", 0)),
        tuple(prefixes),
    )


def _secret(text: str | None) -> SecretKey | None:
    key = bytes.fromhex(text or "")
    return None if not key or key == NO_KEY else SecretKey(key)


def endpoint_of(text: str) -> Endpoint:
    """Return `192.0.2.1:51820` or `[2001:db8::1]:51820` as a value. Raises: ValueError."""
    host, _, port = text.rpartition(":")
    return Endpoint(host.strip("[]"), int(port))


def prefix_of(text: str) -> Prefix:
    """Return `10.0.0.0/8` or `2001:db8::/32` as a value. Raises: ValueError."""
    host, _, length = text.partition("/")
    if ":" in host:
        from ipaddress import IPv6Address  # only where there is IPv6

        return Prefix(6, int(IPv6Address(host)), int(length))
    a, b, c, d = host.split(".")
    return Prefix(4, int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d), int(length))

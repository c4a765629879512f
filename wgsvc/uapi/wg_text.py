"""
The same values in the words of wg(8): what it prints (`show IF dump`) and what it reads.

For the kernel's WireGuard, whose own protocols (nvlists by ioctl, generic netlink) wg(8)
speaks. Formats: wg(8), "show" and "CONFIGURATION FILE FORMAT".
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Mapping

from wgsvc.errors import ProtocolError
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange
from wgsvc.uapi.parse import DeviceState, PeerState, endpoint_of, prefix_of
from wgsvc.values import KEY_LENGTH, Prefix, SecretKey

NONE = "(none)"


def parse_dump(text: str, subject: str) -> DeviceState:
    """
    Return what `wg show IF dump` printed.

    Raises: ProtocolError, which never quotes the text: keys are in it.
    """
    try:
        device, *peers = [line.split("\t") for line in text.splitlines()]
        private_key, _public_key, listen_port, fwmark = device
        return DeviceState(
            _secret(private_key),
            int(listen_port),
            0 if fwmark == "off" else int(fwmark, 0),
            tuple([_peer(fields) for fields in peers]),
        )
    except (ValueError, Error) as error:
        raise ProtocolError(f"{subject}: {type(error).__name__} in its answer") from None


def _peer(fields: list[str]) -> PeerState:
    key, preshared_key, endpoint, allowed_ips, handshake, rx, tx, keepalive = fields
    return PeerState(
        _key(key),
        _secret(preshared_key),
        None if endpoint == NONE else endpoint_of(endpoint),
        0 if keepalive == "off" else int(keepalive),
        float(int(handshake)),
        int(rx),
        int(tx),
        tuple([prefix_of(item) for item in allowed_ips.split(",")] if allowed_ips != NONE else []),
    )


def _key(text: str) -> bytes:
    key = a2b_base64(text)
    if len(key) != KEY_LENGTH:
        raise ValueError("a key of another length")
    return key


def _secret(text: str) -> SecretKey | None:
    key = NO_KEY if text == NONE else _key(text)
    return None if key == NO_KEY else SecretKey(key)


def conf(change: DeviceChange, now: DeviceState | None) -> str:
    """
    Return what of a change `wg setconf` (of a whole device) or `wg addconf` reads.

    `now` is what the device has, None for an empty one. A peer's AllowedIPs are given in full,
    since wg(8) replaces them. Removed peers are left out: see `removed`.
    """
    there = {peer.public_key: peer for peer in now.peers} if now is not None else {}
    lines = ["[Interface]"]
    if change.private_key is not None:
        lines.append(f"PrivateKey = {_base64(change.private_key)}")
    if change.listen_port is not None:
        lines.append(f"ListenPort = {int(change.listen_port)}")
    if change.fwmark is not None:
        lines.append(f"FwMark = {int(change.fwmark)}")
    for peer in change.peers:
        if not peer.remove and (peer.public_key in there or not peer.update_only):
            lines += ["[Peer]", *_peer_lines(peer, there)]
    return "\n".join(lines) + "\n"


def _peer_lines(peer: PeerChange, there: Mapping[bytes, PeerState]) -> Iterator[str]:
    yield f"PublicKey = {_base64(peer.public_key)}"
    if peer.preshared_key is not None:
        yield f"PresharedKey = {_base64(peer.preshared_key)}"
    if peer.endpoint is not None:
        yield f"Endpoint = {peer.endpoint}"
    if peer.keepalive_s is not None:
        yield f"PersistentKeepalive = {int(peer.keepalive_s)}"
    prefixes = _allowed_ips(peer, there.get(peer.public_key))
    if prefixes:
        yield f"AllowedIPs = {', '.join(map(str, prefixes))}"


def _allowed_ips(peer: PeerChange, now: PeerState | None) -> tuple[Prefix, ...]:
    if peer.replace_allowed_ips or now is None:
        return peer.allowed_ips
    dropped = set(peer.dropped_ips)
    kept = (prefix for prefix in now.allowed_ips if prefix not in dropped)
    return tuple(dict.fromkeys((*kept, *peer.allowed_ips)))


def _base64(key: bytes) -> str:
    if len(key) != KEY_LENGTH:
        raise ValueError("a key of another length")
    return b2a_base64(bytes(key), newline=False).decode("ascii")


def keepalives(changes: Iterable[PeerChange]) -> list[str]:
    """Return keepalives as `wg set IF` takes them, in order, each peer as often as it comes."""
    return [
        word
        for change in changes
        for word in (
            *("peer", _base64(change.public_key)),
            *("persistent-keepalive", str(int(change.keepalive_s or 0))),
        )
    ]


def removed(change: DeviceChange) -> list[str]:
    """Return the public keys that a change removes, as `wg set IF peer KEY remove` takes them."""
    return [_base64(peer.public_key) for peer in change.peers if peer.remove]

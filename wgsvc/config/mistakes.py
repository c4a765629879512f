"""What is valid word by word and yet hardly meant: secrets in the wrong place, lost packets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wgsvc.config.fields import MAIN_TABLE, clamped
from wgsvc.config.findings import Findings
from wgsvc.config.model import Peer
from wgsvc.config.peers import PeerSection
from wgsvc.values import BITS, Prefix

OWN_PRIVATE_KEY = (
    "is this tunnel's own private key: the peer's public key belongs here, and nobody may have "
    "the private one"
)
OWN_PUBLIC_KEY = "is this tunnel's own public key: WireGuard ignores such a peer"
PRESHARED_AS_PUBLIC = "is also a PresharedKey, a secret: the peer's public key belongs here"
PRESHARED_AS_PRIVATE = (
    "is this tunnel's own private key, which the peer must not know; wg genpsk makes another"
)


def is_private_key(key: bytes, private_key: bytes) -> bool:
    """
    Whether a key is this private key, which is clamped: as it stands there or clamped.

    In its middle nothing is clamped: of two different keys that alone differs, at no cost.
    """
    return key[1:31] == private_key[1:31] and clamped(key) == private_key


def find_secrets(
    private_key: bytes | None, sections: Sequence[PeerSection], findings: Findings
) -> None:
    """
    Note secrets that are about to be told to others.

    A tunnel with one of them as a PublicKey never worked, so it is an error; with the private
    key as a PresharedKey it may work.
    """
    preshared = {section.preshared_key for section in sections if section.preshared_key}
    for section in sections:
        key = section.public_key
        if key and private_key is not None and is_private_key(key, private_key):
            findings.error(section.file, section.key_line, 1, "PublicKey", OWN_PRIVATE_KEY)
        elif key in preshared:
            findings.error(section.file, section.key_line, 1, "PublicKey", PRESHARED_AS_PUBLIC)
    if private_key is not None and any(is_private_key(key, private_key) for key in preshared):
        for section in sections:
            if section.preshared_key and is_private_key(section.preshared_key, private_key):
                what = PRESHARED_AS_PRIVATE
                findings.warning(section.file, section.line, 1, "PresharedKey", what)


def warn_of_own_key(
    private_key: bytes, sections: Iterable[PeerSection], findings: Findings
) -> None:
    """Warn of peers with this tunnel's public key. Working that out takes 3 ms."""
    from wgsvc.config.x25519 import public_key

    own = public_key(private_key)
    for section in sections:
        if section.public_key == own:
            findings.warning(section.file, section.key_line, 1, "PublicKey", OWN_PUBLIC_KEY)


def warn_of_lost_packets(
    table: int | None,
    sections: Sequence[PeerSection],
    peers: Iterable[Peer],
    findings: Findings,
    *,
    linux: bool,
) -> None:
    """
    Warn of routes that would lead the encrypted packets into the tunnel, which carries none.

    In the default table every endpoint that a route covers gets a host route of its own, so only
    the route that would be that host route itself is lost. In Linux's main table by name or
    number, routes go in as they are, beside nothing.
    """
    main = linux and table == MAIN_TABLE
    if table is not None and not main:
        return
    endpoints = [section for section in sections if section.endpoint_address is not None]
    if not endpoints:
        return
    routed: set[Prefix] = set()
    for peer in peers:
        routed.update(peer.allowed_ips if peer.routes is None else peer.routes)
    lengths = {
        version: sorted({p.length for p in routed if p.version == version}) if main else [bits]
        for version, bits in BITS.items()
    }
    for section in endpoints:
        address = section.endpoint_address
        if address is None:
            continue
        for length in reversed(lengths[address.version]):
            covering = Prefix(address.version, address.address, length).network
            if covering in routed:
                what, rule = _said(covering, main=main)
                line, column = section.endpoint_at
                findings.warning(section.file, line, column, "Endpoint", what, rule=rule)
                break


def _said(covering: Prefix, *, main: bool) -> tuple[str, str]:
    if main:
        rule = "a route of the tunnel covers this address"
        return (
            f"{covering} goes into the tunnel and covers this address: the encrypted packets go "
            "there, too; Table = auto gives them a route of their own"
        ), rule
    rule = "this very address is a route of the tunnel"
    return (
        f"{covering}, this very address, is an AllowedIP or a route: its route is left out, since "
        "the encrypted packets to the peer must go outside the tunnel"
    ), rule

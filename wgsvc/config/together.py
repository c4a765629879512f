"""What several tunnels of one host have in common though only one of them can have it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence

from wgsvc.config.model import Diagnostic, Tunnel
from wgsvc.values import Prefix

_LINK_LOCAL = Prefix(6, 0xFE80 << 112, 10)  # such an address may be on every interface


def compare(tunnels: Sequence[Tunnel], wanted: Collection[str]) -> dict[str, list[Diagnostic]]:
    """
    Return what is to be said of the `wanted` tunnels, by name, when all `tunnels` are compared.

    Takes time linear in what it is given: of many that share a value, each is told of one other.
    """
    owners: dict[Hashable, list[Tunnel]] = {}
    for tunnel in tunnels:
        for key, value, _ in _exclusive(tunnel):
            owners.setdefault((key, value), []).append(tunnel)
    found: dict[str, list[Diagnostic]] = {}
    for tunnel in tunnels:
        if tunnel.name in wanted:
            found[tunnel.name] = [
                *_shared_secrets(tunnel, owners),
                *(
                    Diagnostic("warning", tunnel.path, 0, 0, key, _said(what, tunnel, sharing))
                    for key, value, what in _exclusive(tunnel)
                    if len(sharing := owners[key, value]) > 1
                ),
            ]
    return found


def _exclusive(tunnel: Tunnel) -> Iterator[tuple[str, Hashable, str]]:
    """Yield key, value, and what there is to say, {} for the other file."""
    if tunnel.listen_port:
        port = tunnel.listen_port
        yield "ListenPort", port, f"{port} is also that of {{}}: only one of them can run at a time"
    if tunnel.private_key is not None:
        what = "is also that of {}: peers take them for one, so only one of them can be connected"
        yield "PrivateKey", bytes(tunnel.private_key), what
    for address in dict.fromkeys(tunnel.addresses):
        if not _LINK_LOCAL.covers(address):
            one = address.version, address.address
            yield "Address", one, f"{address.host} is also an address of {{}}"


def _said(what: str, tunnel: Tunnel, sharing: Sequence[Tunnel]) -> str:
    other = next(each for each in sharing if each is not tunnel)
    more = len(sharing) - 2
    others = f" and {more} other{'s' if more > 1 else ''}" if more else ""
    return what.format(f"{other.path}{others}")


def _shared_secrets(tunnel: Tunnel, owners: dict[Hashable, list[Tunnel]]) -> Iterator[Diagnostic]:
    from wgsvc.config.fields import clamped

    for peer in tunnel.peers:
        for owner in owners.get(("PrivateKey", clamped(peer.public_key)), ())[:1]:
            what = (
                f"is the private key of {owner.path}, a secret: its public key belongs here, "
                "which wg pubkey makes of it"
            )
            yield Diagnostic("error", tunnel.path, 0, 0, "PublicKey", what)

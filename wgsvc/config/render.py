"""A Tunnel back to text, in one canonical form."""

from __future__ import annotations

from binascii import b2a_base64

from wgsvc.config.model import TABLE_OFF, Peer, Tunnel
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def wg_text(tunnel: Tunnel) -> str:
    """Return what wg(8) takes (`wg setconf`): keys, peers and nothing of wg-quick's."""
    return _joined(_wg_interface(tunnel), tunnel.peers, comments=False)


def text(tunnel: Tunnel) -> str:
    """Return a whole configuration file; parsing it gives the same tunnel."""
    return _joined(_interface(tunnel), tunnel.peers, comments=True)


def _joined(interface: Iterator[str], peers: tuple[Peer, ...], *, comments: bool) -> str:
    lines = ["[Interface]", *interface]
    for peer in peers:
        lines += ["", "[Peer]", *peer_lines(peer, comments=comments)]
    for line in lines:
        if not line.replace("\t", " ").isprintable() and any(ord(c) < 32 for c in line):
            # One value would become two lines, the second of anybody's choosing.
            raise ValueError("a value holds a control character")
    return "\n".join(lines) + "\n"


def _wg_interface(tunnel: Tunnel) -> Iterator[str]:
    if tunnel.private_key is not None:
        yield f"PrivateKey = {_key(tunnel.private_key)}"
    if tunnel.listen_port is not None:
        yield f"ListenPort = {tunnel.listen_port}"
    if tunnel.fwmark is not None:
        yield f"FwMark = {hex(tunnel.fwmark) if tunnel.fwmark else 'off'}"


def _interface(tunnel: Tunnel) -> Iterator[str]:
    if tunnel.private_key_file:
        yield f"# wgsvc: private-key-file = {tunnel.private_key_file}"
        tunnel = tunnel._replace(private_key=None)
    yield from _wg_interface(tunnel)
    for address in tunnel.addresses:
        yield f"Address = {address}"
    if tunnel.dns_servers or tunnel.dns_search:
        yield f"DNS = {', '.join((*tunnel.dns_servers, *tunnel.dns_search))}"
    if tunnel.mtu is not None:
        yield f"MTU = {tunnel.mtu}"
    if tunnel.table is not None:
        yield f"Table = {'off' if tunnel.table == TABLE_OFF else tunnel.table}"
    if tunnel.save_config:
        yield "SaveConfig = true"
    for key, snippets in zip(("PreUp", "PostUp", "PreDown", "PostDown"), tunnel.hooks, strict=True):
        for snippet in snippets:
            yield f"{key} = {snippet}"


def peer_lines(peer: Peer, *, comments: bool = False) -> Iterator[str]:
    """Yield the lines of a [Peer] section; with `comments` those for wgsvc too."""
    if comments and peer.name:
        yield f"# wgsvc: name = {peer.name}"
    yield f"PublicKey = {_key(peer.public_key)}"
    if peer.preshared_key is not None:
        yield f"PresharedKey = {_key(peer.preshared_key)}"
    if peer.allowed_ips:
        yield f"AllowedIPs = {', '.join(map(str, peer.allowed_ips))}"
    if peer.endpoint is not None:
        yield f"Endpoint = {peer.endpoint}"
    if peer.keepalive_s is not None:
        yield f"PersistentKeepalive = {peer.keepalive_s or 'off'}"
    if comments and peer.routes is not None:
        yield f"# wgsvc: routes = {', '.join(map(str, peer.routes)) or 'off'}"


def _key(raw: bytes) -> str:
    return b2a_base64(bytes(raw), newline=False).decode("ascii")

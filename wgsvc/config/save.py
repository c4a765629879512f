"""Writing what runs into its file: what differs, and nothing else."""

from __future__ import annotations

from binascii import b2a_base64

from wgsvc.config.edit import Section, Text
from wgsvc.config.fields import NO_LOOK_UPS
from wgsvc.config.merge import merge
from wgsvc.config.parse import parse
from wgsvc.config.render import peer_lines
from wgsvc.errors import ConfigError
from wgsvc.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wgsvc.config.fields import LookUps
    from wgsvc.config.model import Peer, Tunnel
    from wgsvc.values import Prefix


class Saved(NamedTuple):
    """The files that change, path to bytes; and what could not be written."""

    files: dict[str, bytes]
    left_out: tuple[str, ...] = ()


def save(
    files: Sequence[tuple[str, bytes]],
    applied: Tunnel,
    running: Tunnel,
    *,
    look_ups: LookUps = NO_LOOK_UPS,
) -> Saved:
    """
    Return the files with everything in them that changed between `applied` and `running`.

    `files` are the file itself and its drop-ins, as they are now. What was edited in them since
    they were applied stays. New peers go to the end of the first file.

    Raises: ConfigError if a file has errors, or if the result would not say what runs.
    """
    old = _parsed(files, applied.name, look_ups)
    wanted = merge(old, applied, running)
    left_out = []
    if old.private_key_file and running.private_key != applied.private_key:
        wanted = wanted._replace(private_key=None)
        left_out.append(f"the private key has changed; it belongs into {old.private_key_file}")
    wanted = wanted._replace(peers=tuple(_named(old, wanted)))
    if wanted == old:
        return Saved({}, tuple(left_out))
    texts = {path: Text(data) for path, data in files}
    main = texts[files[0][0]]
    _edit_interface(main, old, wanted)
    _edit_peers(main, list(texts.values()), old, wanted)
    changed = {path: bytes(text) for path, text in texts.items()}
    new = _parsed([(path, changed[path]) for path, _ in files], applied.name, look_ups)
    if _said(new) != _said(wanted):
        raise ConfigError(
            f"{files[0][0]}: what runs can't be written into it without changing what else it says",
            cure=f"wgsvc reload {applied.name} applies the file; then change and save again",
        )
    return Saved({path: changed[path] for path, data in files if changed[path] != data},
                 tuple(left_out))  # fmt: skip


def _parsed(files: Sequence[tuple[str, bytes]], name: str, look_ups: LookUps) -> Tunnel:
    (path, data), *extra = files
    checked = parse(data, name=name, path=path, extra=extra, look_ups=look_ups)
    if checked.tunnel is None:
        first = checked.errors[0]
        raise ConfigError(f"{first}: nothing is saved into a file with errors")
    return checked.tunnel


def _named(old: Tunnel, wanted: Tunnel) -> list[Peer]:
    """Return the peers wanted; an endpoint that the file has as a name stays one."""
    names = {
        peer.public_key: peer.endpoint
        for peer in old.peers
        if peer.endpoint is not None and _is_name(peer.endpoint.host)
    }
    if not names:
        return list(wanted.peers)
    return [
        peer._replace(endpoint=names.get(peer.public_key, peer.endpoint)) for peer in wanted.peers
    ]


def _is_name(host: str) -> bool:
    return ":" not in host and not host.rpartition(".")[2].isdigit()  # RFC 1123, 2.1


def _said(tunnel: Tunnel) -> tuple[object, ...]:
    """Return what a file says, without the order that does not matter."""
    peers = {
        peer.public_key: peer._replace(
            allowed_ips=tuple(sorted(peer.allowed_ips)), keepalive_s=peer.keepalive_s or 0, line=0
        )
        for peer in tunnel.peers
    }
    interface = tunnel._replace(
        peers=(), addresses=tuple(sorted(tunnel.addresses)), fwmark=tunnel.fwmark or 0, digest=""
    )
    return interface, peers


def _edit_interface(main: Text, old: Tunnel, wanted: Tunnel) -> None:
    sections = main.interface or [main.new_interface()]

    def put(key: str, value: str) -> None:
        holds = [section for section in sections if section.lines(key)]
        main.set_value((holds or sections)[-1], key, value)

    if wanted.private_key != old.private_key:
        if wanted.private_key is None:
            for section in sections:
                main.drop_key(section, "PrivateKey")
        else:
            put("PrivateKey", _key(wanted.private_key))
    if wanted.listen_port != old.listen_port:
        put("ListenPort", str(wanted.listen_port or 0))
    if wanted.fwmark != old.fwmark:
        put("FwMark", hex(wanted.fwmark) if wanted.fwmark else "off")
    if wanted.mtu != old.mtu:
        put("MTU", str(wanted.mtu))
    if wanted.addresses != old.addresses:
        _edit_addresses(main, sections, old, wanted)


def _edit_addresses(main: Text, sections: list[Section], old: Tunnel, wanted: Tunnel) -> None:
    gone = set(old.addresses).difference(wanted.addresses)
    new = [address for address in wanted.addresses if address not in old.addresses]
    if new:
        holds = [section for section in sections if section.lines("Address")]
        main.add_entries((holds or sections)[-1], "Address", new)
    for section in sections:  # last: new entries take the places of old ones
        main.remove_entries(section, "Address", gone.__contains__)


def _edit_peers(main: Text, texts: list[Text], old: Tunnel, wanted: Tunnel) -> None:
    if wanted.peers == old.peers:
        return
    places: dict[bytes, list[tuple[Text, Section]]] = {}
    for text in texts:
        for section in text.peers:
            places.setdefault(section.public_key, []).append((text, section))
    after = {peer.public_key: peer for peer in wanted.peers}
    for peer in old.peers:
        if peer.public_key not in after:
            for text, section in places.pop(peer.public_key):
                text.remove_section(section)
    before = {peer.public_key: peer for peer in old.peers}
    for peer in wanted.peers:
        was = before.get(peer.public_key)
        if was is None:
            main.append_section("[Peer]", peer_lines(peer))
        elif was != peer:
            _edit_peer(places[peer.public_key], was, peer)
    _remove_allowed(places, old, wanted)  # last: new entries take the places of old ones


def _remove_allowed(
    places: dict[bytes, list[tuple[Text, Section]]], old: Tunnel, wanted: Tunnel
) -> None:
    """Remove the AllowedIPs that are nobody's or somebody else's now, wherever they stand."""
    now = {prefix: peer.public_key for peer in wanted.peers for prefix in peer.allowed_ips}
    moved = {
        prefix
        for peer in old.peers
        for prefix in peer.allowed_ips
        if now.get(prefix) != peer.public_key
    }
    if not moved:
        return
    for key, sections in places.items():

        def unwanted(prefix: Prefix, key: bytes = key) -> bool:
            return prefix in moved and now.get(prefix) != key

        for text, section in sections:
            text.remove_entries(section, "AllowedIPs", unwanted)


def _edit_peer(sections: list[tuple[Text, Section]], was: Peer, peer: Peer) -> None:
    def put(key: str, value: str) -> None:
        holds = [place for place in sections if place[1].lines(key)]
        text, section = (holds or sections)[-1]
        text.set_value(section, key, value)

    if peer.preshared_key != was.preshared_key:
        if peer.preshared_key is None:
            for text, section in sections:
                text.drop_key(section, "PresharedKey")
        else:
            put("PresharedKey", _key(peer.preshared_key))
    if peer.endpoint != was.endpoint and peer.endpoint is not None:
        put("Endpoint", str(peer.endpoint))
    if (peer.keepalive_s or 0) != (was.keepalive_s or 0):
        put("PersistentKeepalive", str(peer.keepalive_s or "off"))
    there = {prefix for text, section in sections for prefix in text.entries(section, "AllowedIPs")}
    new = [prefix for prefix in peer.allowed_ips if prefix not in there]
    if new:
        text, section = sections[-1]
        text.add_entries(section, "AllowedIPs", new)


def _key(raw: bytes) -> str:
    return b2a_base64(bytes(raw), newline=False).decode("ascii")

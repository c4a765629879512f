"""The [Peer] sections: their keys, and how several of them come together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wgsvc.config import fields
from wgsvc.config.findings import Findings
from wgsvc.config.model import Diagnostic, Peer
from wgsvc.light import TYPE_CHECKING
from wgsvc.values import KEY_LENGTH, Endpoint, Prefix, SecretKey

if TYPE_CHECKING:
    from wgsvc.config.reader import Reader

_NAME_MAX = 64
NO_ALLOWED_IPS = "has no AllowedIPs: nothing is sent to this peer, and what it sends is dropped"
_TAKEN = "an earlier peer has it too"
_KEYLIKE = 40  # a word this long over a [Peer] is rather a key than a name


class PeerSection:
    """What one [Peer] section says, and where."""

    __slots__ = (
        "adds", "allowed", "allowed_at", "endpoint", "endpoint_address", "endpoint_at",
        "file", "keepalive_s", "key_line", "line", "name", "preshared_key", "public_key", "remark",
        "routes",
    )  # fmt: skip

    def __init__(self, file: str, line: int, remark: bytes) -> None:
        self.file = file
        self.line = line
        self.remark = remark  # the comment line directly over it
        self.public_key: bytes | None = None  # b"" if the file has a wrong one
        self.key_line = 0
        self.preshared_key: SecretKey | None = None
        self.endpoint: Endpoint | None = None
        self.endpoint_address: Prefix | None = None
        self.endpoint_at = (0, 0)
        self.keepalive_s: int | None = None
        self.allowed: list[Prefix] = []
        self.allowed_at = (0, 0)
        self.adds = False
        self.routes: tuple[Prefix, ...] | None = None
        self.name = ""


def _public_key(into: PeerSection, value: bytes, reader: Reader) -> None:
    if into.public_key is not None:
        reader.again("PublicKey")
    into.public_key = b""
    raw = fields.key(value)
    if raw == bytes(KEY_LENGTH):
        raise fields.BadValue("is all zeros, which is nobody's key")
    into.public_key = raw
    into.key_line = reader.line


def _preshared_key(into: PeerSection, value: bytes, reader: Reader) -> None:
    if into.preshared_key is not None:
        reader.again("PresharedKey")
    raw = fields.key(value)
    into.preshared_key = None if raw == bytes(KEY_LENGTH) else SecretKey(raw)


def _endpoint(into: PeerSection, value: bytes, reader: Reader) -> None:
    if into.endpoint is not None:
        reader.again("Endpoint")
    into.endpoint, into.endpoint_address = fields.endpoint(value, reader.look_ups.service_port)
    into.endpoint_at = (reader.line, reader.value_column)


def _keepalive(into: PeerSection, value: bytes, reader: Reader) -> None:
    if into.keepalive_s is not None:
        reader.again("PersistentKeepalive")
    into.keepalive_s = fields.keepalive(value)


def _allowed_ips(into: PeerSection, value: bytes, reader: Reader) -> None:
    key = "AllowedIPs"
    found, odd, adds = fields.networks(value, lambda *what: reader.wrong(key, *what))
    for offset, written in odd:
        reader.odd(offset, key, fields.HOST_BITS, written, written.network)
    if not into.allowed:
        into.allowed_at = (reader.line, reader.value_column)
    into.allowed += found
    into.adds = into.adds or adds


KEYS: dict[str, Callable[[PeerSection, bytes, Reader], None]] = {
    "PublicKey": _public_key,
    "PresharedKey": _preshared_key,
    "Endpoint": _endpoint,
    "PersistentKeepalive": _keepalive,
    "AllowedIPs": _allowed_ips,
}


def shown_name(comment: bytes) -> str:
    """Return a comment as the name of a peer, "" if it is hardly meant as one."""
    try:
        text = comment.decode("utf-8").strip("# \t\r\v\f")
    except UnicodeDecodeError:
        return ""
    if not text.isprintable() or len(text) > _NAME_MAX or "=" in text:  # = : a line put aside
        return ""
    return "" if any(len(word) >= _KEYLIKE for word in text.split()) else text


def check_given_name(value: bytes) -> str:
    """
    Return the value of `# wgsvc: name = ...`.

    Raises: BadValue.
    """
    text = value.strip().decode("utf-8", "replace")
    if not text or len(text) > _NAME_MAX or not text.isprintable() or "\ufffd" in text:
        raise fields.BadValue(f"must be 1 to {_NAME_MAX} printable characters")
    return text


class _Merged:
    """One peer in the making: what its sections, taken in order, leave behind."""

    __slots__ = ("allowed", "last", "robbed", "sections")

    def __init__(self, section: PeerSection) -> None:
        self.sections = [section]
        self.last = section
        self.allowed = section.allowed
        self.robbed = False


def merge(sections: Iterable[PeerSection], findings: Findings) -> list[Peer]:
    """
    Return the peers of these sections, as a device has them after `wg setconf`.

    A later section of the same key overrides, and its AllowedIPs replace the earlier
    ones; a prefix belongs to the peer that was given it last.
    """
    peers: dict[bytes, _Merged] = {}
    owner: dict[Prefix, _Merged] = {}
    for section in sections:
        if not section.public_key:
            if section.public_key is None:
                what = "PublicKey is missing"
                findings.error(section.file, section.line, 1, "[Peer]", what)
            continue
        peer = peers.get(section.public_key)
        if peer is None:
            peer = peers[section.public_key] = _Merged(section)
        else:
            _join(peer, section, owner, findings)
        for prefix in section.allowed:
            before = owner.setdefault(prefix, peer)
            if before is not peer:
                owner[prefix] = peer
                before.robbed = True
                if findings.wants("warning", "AllowedIPs", _TAKEN):
                    _warn_taken(findings, section, prefix, before.last)
    for peer in peers.values():
        if not peer.allowed and not any(section.allowed_at[0] for section in peer.sections):
            place = peer.last
            findings.warning(place.file, place.line, 1, "[Peer]", NO_ALLOWED_IPS)
    return [_peer(merged, owner) for merged in peers.values()]


def _join(
    peer: _Merged, section: PeerSection, owner: dict[Prefix, _Merged], findings: Findings
) -> None:
    findings.warning(
        section.file, section.line, 1, "[Peer]",
        f"this key's peer is also at {_place(section, peer.last)}; this section overrides "
        f"that one and {'adds to' if section.adds else 'replaces'} its AllowedIPs",
        rule="its key has a section before",
    )  # fmt: skip
    peer.sections.append(section)
    peer.last = section
    if section.adds:
        peer.allowed += section.allowed
        return
    for prefix in peer.allowed:
        if owner.get(prefix) is peer:
            del owner[prefix]
    peer.allowed = section.allowed


def _peer(merged: _Merged, owner: dict[Prefix, _Merged]) -> Peer:
    first = merged.sections[0]
    allowed = merged.allowed
    if merged.robbed:
        allowed = [prefix for prefix in allowed if owner[prefix] is merged]
    peer = Peer(
        first.public_key or b"",
        first.preshared_key,
        first.endpoint,
        first.keepalive_s,
        tuple(dict.fromkeys(allowed)) if len(allowed) > 1 else tuple(allowed),
        first.name or (shown_name(first.remark) if first.remark else ""),
        first.routes,
        first.line,
    )
    for later in merged.sections[1:]:
        peer = peer._replace(
            preshared_key=later.preshared_key or peer.preshared_key,
            endpoint=later.endpoint or peer.endpoint,
            keepalive_s=peer.keepalive_s if later.keepalive_s is None else later.keepalive_s,
            name=later.name or shown_name(later.remark) or peer.name,
            routes=peer.routes if later.routes is None else later.routes,
        )
    return peer


def _warn_taken(
    findings: Findings, section: PeerSection, prefix: Prefix, before: PeerSection
) -> None:
    line, column = section.allowed_at
    message = (
        f"{prefix} is also the peer's at {_place(section, before)}; this peer, the later, gets it"
    )
    found = Diagnostic("warning", section.file, line, column, "AllowedIPs", message)
    findings.add(found, _TAKEN)


def _place(here: PeerSection, other: PeerSection) -> str:
    return f"line {other.line}" if other.file == here.file else f"{other.file}:{other.line}"

"""
Comments addressed to wgsvc: `# wgsvc: KEY = VALUE`, a line of its own in its section.

wg-quick and wg see comments, so a file with them stays usable by both.
"""

from __future__ import annotations

from wgsvc.config import fields
from wgsvc.config.fields import BLANKS, BadValue
from wgsvc.config.interface import Interface
from wgsvc.config.peers import PeerSection, check_given_name
from wgsvc.light import TYPE_CHECKING
from wgsvc.values import Prefix

if TYPE_CHECKING:
    from wgsvc.config.reader import Reader

_PEER_KEYS = ("name", "routes")
_INTERFACE_KEYS = ("private-key-file",)
_PATH_MAX = 1024


def split(raw: bytes, mark: int) -> tuple[str, int, bytes] | None:
    """Return (key, offset of the value in the line, value), None if this is another comment."""
    text = raw[mark:].lstrip(b"#" + BLANKS)
    if text[:5].lower() != b"wgsvc":
        return None
    rest = text[5:].lstrip()
    if rest[:1] != b":":
        return None
    key, _, value = rest[1:].partition(b"=")
    return key.strip().lower().decode("ascii", "replace"), len(raw) - len(value), value


def take(key: str, value: bytes, section: Interface | PeerSection | None, reader: Reader) -> None:
    """
    Put a directive where it belongs; one that is not known is worth a warning.

    Raises: BadValue.
    """
    if key in _PEER_KEYS and isinstance(section, PeerSection):
        if key == "name":
            section.name = check_given_name(value)
        else:
            section.routes = _routes(value, reader)
    elif key in _INTERFACE_KEYS and isinstance(section, Interface):
        section.private_key_file = _path(value)
    elif key in _PEER_KEYS + _INTERFACE_KEYS:
        where = "[Peer]" if key in _PEER_KEYS else "[Interface]"
        reader.wrong(f"wgsvc: {key}", -1, b"", BadValue(f"belongs in {where}"))
    else:
        known = ", ".join(_PEER_KEYS + _INTERFACE_KEYS)
        reader.odd(-1, "wgsvc", f"no such setting in a comment; there are {known}")


def _routes(value: bytes, reader: Reader) -> tuple[Prefix, ...]:
    if value.strip().lower() == b"off":
        return ()
    if not value.strip():
        raise BadValue("must be off or a list of prefixes")
    key = "wgsvc: routes"
    found, odd, _adds = fields.networks(value, lambda *what: reader.wrong(key, *what))
    for offset, written in odd:
        reader.odd(offset, key, fields.HOST_BITS, written, written.network)
    return tuple(dict.fromkeys(found))


def _path(value: bytes) -> str:
    try:
        path = value.strip().decode("utf-8")
    except UnicodeDecodeError:
        path = ""
    if not path or len(path) > _PATH_MAX or not path.isprintable():
        raise BadValue("must be the path of a file that holds the private key")
    if _is_key(value):
        raise BadValue("is a key, and must be the path of a file that holds it")
    return path


def _is_key(value: bytes) -> bool:
    """Whether this is a key, or one that lost its last `=`: as a path it would be shown."""
    text = value.strip()
    for candidate in (text, b"" if text[:1] == b"/" else text + b"="):
        try:
            fields.key(candidate)
        except BadValue:
            continue
        return True
    return False

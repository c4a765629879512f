"""The [Interface] section: its keys, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable

from wgsvc.config import fields
from wgsvc.config.fields import BadValue
from wgsvc.light import TYPE_CHECKING
from wgsvc.values import KEY_LENGTH, Prefix, SecretKey

if TYPE_CHECKING:
    from wgsvc.config.reader import Reader

MTU_MIN, MTU_MAX = 576, 65535  # what every IPv4 host must take (RFC 791); the kernels' limit
MTU_MIN_IPV6 = 1280  # RFC 8200


class Interface:
    """What the [Interface] sections of a file say; several of them add up."""

    name = "[Interface]"

    def __init__(self) -> None:
        self.line = 0
        self.private_key: SecretKey | None = None
        self.private_key_file = ""
        self.listen_port: int | None = None
        self.fwmark: int | None = None
        self.addresses: dict[Prefix, None] = {}
        self.dns_servers: dict[str, None] = {}
        self.dns_search: dict[str, None] = {}
        self.mtu: int | None = None
        self.mtu_line = 0
        self.table: int | None = None
        self.save_config = False
        self.hooks: dict[str, list[str]] = {hook: [] for hook in HOOKS}
        self.seen: set[str] = set()


def _private_key(into: Interface, value: bytes, reader: Reader) -> None:
    reader.once(into.seen, "PrivateKey")
    raw = fields.key(value)
    into.private_key = None if raw == bytes(KEY_LENGTH) else SecretKey(fields.clamped(raw))


def _listen_port(into: Interface, value: bytes, reader: Reader) -> None:
    reader.once(into.seen, "ListenPort")
    into.listen_port = fields.port(value, 0, reader.look_ups.service_port)


def _fwmark(into: Interface, value: bytes, reader: Reader) -> None:
    reader.once(into.seen, "FwMark")
    into.fwmark = fields.fwmark(value) or None  # `off` is what there is without the key


def _address(into: Interface, value: bytes, reader: Reader) -> None:
    entries = fields.words(value)
    for offset, entry in entries:
        try:
            address = fields.prefix(entry)
        except BadValue as bad:
            reader.wrong("Address", offset, entry, bad)
            continue
        if address in into.addresses:
            reader.odd(offset, "Address", "{} is given twice", address)
        into.addresses[address] = None
    if not entries:
        reader.odd(-1, "Address", "has no value and says nothing")


def _dns(into: Interface, value: bytes, reader: Reader) -> None:
    entries = fields.words(value)
    for offset, entry in entries:
        try:
            text, is_server = fields.dns_entry(entry)
        except BadValue as bad:
            reader.wrong("DNS", offset, entry, bad)
            continue
        (into.dns_servers if is_server else into.dns_search)[text] = None
    if not entries:
        reader.odd(-1, "DNS", "has no value and says nothing")


def _mtu(into: Interface, value: bytes, reader: Reader) -> None:
    reader.once(into.seen, "MTU")
    into.mtu = None
    if not value.strip():
        reader.odd(-1, "MTU", "has no value: the MTU is computed")
        return
    into.mtu = fields.number(value, MTU_MIN, MTU_MAX)
    into.mtu_line = reader.line


def _table(into: Interface, value: bytes, reader: Reader) -> None:
    reader.once(into.seen, "Table")
    into.table = fields.table(value, reader.look_ups.route_table)


def _save_config(into: Interface, value: bytes, reader: Reader) -> None:
    reader.once(into.seen, "SaveConfig")
    into.save_config = fields.truth(value)


def _hook(name: str) -> Callable[[Interface, bytes, Reader], None]:
    def take(into: Interface, value: bytes, reader: Reader) -> None:
        text = fields.snippet(value)
        if text:
            into.hooks[name].append(text)
        else:
            reader.odd(-1, name, "has no value and runs nothing")

    return take


HOOKS = ("PreUp", "PostUp", "PreDown", "PostDown")

KEYS: dict[str, Callable[[Interface, bytes, Reader], None]] = {
    "PrivateKey": _private_key,
    "ListenPort": _listen_port,
    "FwMark": _fwmark,
    "Address": _address,
    "DNS": _dns,
    "MTU": _mtu,
    "Table": _table,
    "SaveConfig": _save_config,
    **{hook: _hook(hook) for hook in HOOKS},
}

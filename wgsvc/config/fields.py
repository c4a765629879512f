"""
Values of a configuration file: bytes in, typed values out, or BadValue.

IPv4 is read without `ipaddress` or `re`: both cost start-up time, and this is the
innermost loop of files with 100 000 AllowedIPs.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable

from wgsvc.config.model import TABLE_OFF
from wgsvc.light import NamedTuple, NoReturn
from wgsvc.values import KEY_LENGTH, Endpoint, Prefix

BLANKS = b" \t\r\v\f"  # isspace(3) in the C locale, without the newline

LookUp = Callable[[str], "int | None"]
"""Returns the number that a name stands for, None if there is no such name."""


class LookUps(NamedTuple):
    """What values may name: UDP services, and on Linux routing tables (None: there are FIBs)."""

    service_port: LookUp | None = None
    route_table: LookUp | None = None


NO_LOOK_UPS = LookUps()

_OCTETS = {b"%d" % number: number for number in range(256)}
_LENGTHS = {4: {b"%d" % n: n for n in range(33)}, 6: {b"%d" % n: n for n in range(129)}}
_HOST_MASK = {
    4: [(1 << 32 - n) - 1 for n in range(33)],
    6: [(1 << 128 - n) - 1 for n in range(129)],
}
_KEY_TEXT_LENGTH = 44
_U16_MAX = 65535
_U32_MAX = 0xFFFFFFFF
_U32_DIGITS_MAX = 11  # in octal
MAIN_TABLE = 254  # Linux's RT_TABLE_MAIN
_NAME = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")

ADDRESS_RULE = "must be an IPv4 or IPv6 address, with or without /LENGTH"
HOST_BITS = "{} has host bits set: {} is used"


class BadValue(Exception):  # noqa: N818  # it never leaves this package
    """
    What is wrong with a value, as the end of a sentence that begins with the value or its key.

    Neither `message` nor `rule`, which is the message without numbers of this value, holds a
    part of the value: whoever reports it knows whether the value may be shown.
    """

    def __init__(self, message: str, *, rule: str = "") -> None:
        super().__init__()
        self.message = message
        self.rule = rule or message


Wrong = Callable[[int, bytes, BadValue], None]
"""Takes what is wrong with one entry of a list: its offset in the value, the entry, the reason."""


def key(value: bytes) -> bytes:
    """Return the 32 bytes of a key in canonical base64; blanks within are ignored, as wg does."""
    text = value.translate(None, BLANKS)
    try:
        raw = a2b_base64(text)
    except (Base64Error, ValueError):
        raw = b""
    if len(raw) != KEY_LENGTH or b2a_base64(raw, newline=False) != text:
        if len(text) != _KEY_TEXT_LENGTH:
            rule = f"must have {_KEY_TEXT_LENGTH} characters of base64"
            raise BadValue(f"{rule}, has {len(text)}", rule=rule)
        raise BadValue("is not 32 bytes in base64 (A-Z a-z 0-9 + /, ending in one =)")
    return raw


def clamped(raw: bytes) -> bytes:
    """Return a private key as Curve25519 uses it, which is also how WireGuard reports it."""
    return bytes((raw[0] & 248, *raw[1:31], raw[31] & 127 | 64))


def number(value: bytes, low: int, high: int) -> int:
    """Return a decimal number in [low, high]; leading zeros are fine, as with strtoul(3)."""
    text = value.translate(None, BLANKS)
    digits = text.lstrip(b"0") or b"0"
    if not text.isdigit() or len(digits) > len(str(high)) or not low <= int(digits) <= high:
        raise BadValue(f"must be a number from {low} to {high}")
    return int(digits)


def port(value: bytes, low: int, service_port: LookUp | None) -> int:
    """Return a UDP port, given as a number or as the name of a service."""
    text = value.translate(None, BLANKS)
    if service_port and text[:1].isalpha() and _NAME.issuperset(text):
        found = service_port(text.decode("ascii"))
        if found is not None:
            return found
    try:
        return number(text, low, _U16_MAX)
    except BadValue:
        rule = f"must be a port from {low} to {_U16_MAX}, or the name of a service"
        raise BadValue(rule) from None


def fwmark(value: bytes) -> int:
    """Return a mark: `off`, decimal, or hexadecimal with 0x."""
    text = value.translate(None, BLANKS)
    if text.lower() == b"off":
        return 0
    digits = text[2:].lstrip(b"0") or b"0"
    if text[:2] == b"0x" and len(text) > 2 and len(digits) <= 8 and _is_hex(digits):
        return int(digits, 16)
    try:
        return number(text, 0, _U32_MAX)
    except BadValue:
        raise BadValue("must be off, 0 to 4294967295, or 0x0 to 0xffffffff") from None


def keepalive(value: bytes) -> int:
    """Return seconds; `off` is 0."""
    text = value.translate(None, BLANKS)
    if text.lower() == b"off":
        return 0
    try:
        return number(text, 0, _U16_MAX)
    except BadValue:
        raise BadValue("must be off or a number of seconds from 0 to 65535") from None


def table(value: bytes, route_table: LookUp | None) -> int | None:
    """
    Return a routing table (Linux) or FIB (FreeBSD, where there is no `route_table`).

    None is `auto`. Tables are what `ip route ... table TEXT` takes: a name, else a number.
    """
    text = value.strip()
    word = text.lower()
    if word in (b"", b"auto"):
        return None
    if word == b"off":
        return TABLE_OFF
    if route_table is None:
        try:
            return number(text, 0, _U32_MAX)
        except BadValue:
            raise BadValue("must be auto, off, or a FIB, which is a number") from None
    found = route_table(text.decode("utf-8", "replace"))
    if found is None:
        found = _strtoul(text)
    if found is None or found > _U32_MAX:
        rule = "must be auto, off, or a routing table: a number, or a name of rt_tables"
        raise BadValue(f"{rule} (/etc/iproute2)")
    return found or MAIN_TABLE  # the kernel takes 0 for no table given


def _strtoul(text: bytes) -> int | None:
    """Return a number as strtoul(3) with base 0 has it: 0x is hexadecimal, 0 in front octal."""
    digits, base = text.removeprefix(b"+").lower(), 10
    if digits[:2] == b"0x" and len(digits) > 2:
        digits, base = digits[2:], 16
    elif digits[:1] == b"0":
        base = 8
    digits = digits.lstrip(b"0") or digits[:1]
    if not digits or len(digits) > _U32_DIGITS_MAX or digits.strip(b"0123456789abcdef"[:base]):
        return None
    return int(digits, base)


def truth(value: bytes) -> bool:
    """Return what `true` or `false` says."""
    text = value.strip().lower()
    if text not in (b"true", b"false"):
        raise BadValue("must be true or false")
    return text == b"true"


def snippet(value: bytes) -> str:
    """Return a hook: the text as it stands, its `#` too."""
    try:
        text = value.strip().decode("utf-8")
    except UnicodeDecodeError:
        raise BadValue("is not valid UTF-8") from None
    if any((letter < " " and letter != "\t") or letter == "\x7f" for letter in text):
        raise BadValue("must not contain control characters")
    return text


def prefix(text: bytes) -> Prefix:
    """Return an address with its length, host bits kept; no length is /32 or /128. No blanks."""
    address, slash, length = text.partition(b"/")
    try:
        a, b, c, d = address.split(b".")
        value = _OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]
    except (KeyError, ValueError):
        version, value = 6, _ipv6(address)
    else:
        version = 4
    if not slash:
        return Prefix(version, value, 128 if version == 6 else 32)
    bits = _LENGTHS[version].get(length)
    if bits is None:
        most = 128 if version == 6 else 32
        try:
            bits = number(length, 0, most)
        except BadValue:
            raise BadValue(f"has a length after the / that is not from 0 to {most}") from None
    return Prefix(version, value, bits)


def networks(value: bytes, wrong: Wrong) -> tuple[list[Prefix], list[tuple[int, Prefix]], bool]:
    """
    Return a comma list of prefixes as wg reads it; `wrong` is told of entries that are none.

    Returns: the prefixes, masked; (offset, as written) of those with host bits set; and
    whether one had wg's `+`, which adds to what an earlier section of that peer says.
    """
    try:
        found = [prefix(entry) for entry in value.translate(None, BLANKS).split(b",")]
    except BadValue:
        return _networks_slowly(value, wrong)
    masks = _HOST_MASK
    for entry in found:
        if entry.address & masks[entry.version][entry.length]:
            return _networks_slowly(value, wrong)
    return found, [], False


def _networks_slowly(
    value: bytes, wrong: Wrong
) -> tuple[list[Prefix], list[tuple[int, Prefix]], bool]:
    found: list[Prefix] = []
    odd: list[tuple[int, Prefix]] = []
    adds = False
    at = 0
    for part in value.split(b","):
        entry = part.translate(None, BLANKS)
        offset = at + len(part) - len(part.lstrip())
        at += len(part) + 1
        try:
            if entry[:1] == b"+":
                adds = True
                entry = entry[1:]
            elif entry[:1] == b"-":
                _bad("takes a prefix away from a running peer; a file lists those there are")
            elif not entry:
                _bad("an entry is empty: there is a comma too many")
            written = prefix(entry)
        except BadValue as bad:
            wrong(offset, part, bad)
        else:
            found.append(written.network)
            if written != found[-1]:
                odd.append((offset, written))
    return found, odd, adds


def words(value: bytes) -> list[tuple[int, bytes]]:
    """Split a list as wg-quick does, at commas and blanks; (offset, entry) each."""
    found = []
    at = 0
    for word in value.replace(b",", b" ").split():
        at = value.index(word, at)
        found.append((at, word))
        at += len(word)
    return found


def dns_entry(text: bytes) -> tuple[str, bool]:
    """Return a name server's address, True; or a search domain, False. The test is wg-quick's."""
    if b":" in text:
        address, percent, scope = text.partition(b"%")
        server = Prefix(6, _ipv6(address), 128).host
        if percent and not (scope and _NAME.issuperset(scope)):
            _bad("has a scope that names no interface")
        return server + (f"%{scope.decode('ascii')}" if percent else ""), True
    if not text.strip(b"0123456789."):
        if not text.strip(b"."):
            return text.decode("ascii"), False  # resolv.conf's root domain
        return _ipv4(text).host, True
    # systemd-resolved's routing domains: ~NAME, and ~. for every name.
    if text != b"~." and not _is_host_name(text.removeprefix(b"~")):
        _bad("must be the address of a name server or a search domain")
    return text.decode("ascii"), False


def endpoint(value: bytes, service_port: LookUp | None) -> tuple[Endpoint, Prefix | None]:
    """Return where a peer is, and its address if that is numeric."""
    text = value.translate(None, BLANKS)
    if text[:1] == b"[":
        host, bracket, rest = text[1:].partition(b"]")
        if not bracket or rest[:1] != b":":
            _bad("must be [ADDRESS]:PORT or HOST:PORT")
        port_text = rest[1:]
    else:
        host, _, port_text = text.rpartition(b":")
    if not host or not port_text:
        _bad("must be HOST:PORT, the port is missing" if text else "must be HOST:PORT")
    try:
        number_ = port(port_text, 1, service_port)
    except BadValue:
        raise BadValue(f"must end in a port from 1 to {_U16_MAX}, or a service's name") from None
    if b":" in host:
        address, percent, scope = host.partition(b"%")
        rule = "must be [ADDRESS]:PORT, or HOST:PORT; what stands before the port is not IPv6"
        numeric = Prefix(6, _ipv6(address, rule), 128)
        if percent and not (scope and len(scope) <= 15 and _NAME.issuperset(scope)):
            _bad("has a scope that names no interface")
        shown = numeric.host + (f"%{scope.decode('ascii')}" if percent else "")
        return Endpoint(shown, number_), numeric
    if host.rpartition(b".")[2].isdigit():  # a name can't end like that (RFC 1123, 2.1)
        numeric = _ipv4(host, "must begin with a complete IPv4 address: four numbers up to 255")
        return Endpoint(numeric.host, number_), numeric
    if not _is_host_name(host):
        _bad("must be HOST:PORT, HOST a name or an address")
    return Endpoint(host.decode("ascii"), number_), None


def _ipv4(
    text: bytes, rule: str = "must be a complete IPv4 address: four numbers up to 255"
) -> Prefix:
    try:
        a, b, c, d = (_OCTETS[part] for part in text.split(b"."))
    except (KeyError, ValueError):
        raise BadValue(rule) from None
    return Prefix(4, a << 24 | b << 16 | c << 8 | d, 32)


def _ipv6(text: bytes, rule: str = ADDRESS_RULE) -> int:
    if b":" not in text or b"%" in text:
        raise BadValue(rule)
    from ipaddress import IPv6Address  # 4 ms that files with IPv4 alone never pay

    try:
        return int(IPv6Address(text.decode("ascii")))
    except ValueError:
        raise BadValue(rule) from None


def _is_hex(text: bytes) -> bool:
    return not text.strip(b"0123456789abcdefABCDEF")


def _is_host_name(text: bytes) -> bool:
    if not text or len(text) > 254 or not _NAME.issuperset(text) or text[:1] == b"-":
        return False
    return all(0 < len(label) <= 63 for label in text.removesuffix(b".").split(b"."))


def _bad(message: str) -> NoReturn:
    raise BadValue(message)

"""
What each field of a journal may hold, and reading one that may be forged or damaged.

A journal is root's, but a disk, a backup or another version may have written nonsense into
it: each field is checked by itself, and nothing that stands in one can raise anything here
but ValueError.
"""

from __future__ import annotations

import _socket  # not `socket`: enum and selectors take 8 ms

from wgsvc.config.model import TABLE_OFF, Hooks
from wgsvc.config.names import check_name
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.system.base import RulePair
from wgsvc.values import BITS, Prefix, Route

if TYPE_CHECKING:
    from collections.abc import Callable

PHASES = ("starting", "up", "stopping")
BACKENDS = ("wireguard-go", "kernel")
TEXT_MAX = 1 << 16
ITEMS_MAX = 1 << 16
FOREVER_S = 1e11  # of UNIX time: the year 5138, which time.localtime() still takes
_INT, _UNSIGNED = 1 << 31, 1 << 32


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX or "\0" in value:
        raise ValueError("no text")
    return value


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError("none of the words it may be")
        return _text(value)

    return check


def _interface(value: Any) -> str:
    if _text(value) and check_name(value):
        raise ValueError("no name of an interface")
    return _text(value)


def _number(below: int, *, first: int = 0) -> Callable[[Any], int]:
    """Return a check for a whole number; a bool is none, though Python takes it for one."""

    def check(value: Any) -> int:
        if type(value) is not int or not first <= value < below:
            raise ValueError("no number, or out of its range")
        return value

    return check


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")  # noqa: TRY004 - one kind for all of them
    return value


def _moment(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < FOREVER_S:  # NaN is in no range
        raise ValueError("no moment")
    return float(value)


def _each(check: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > ITEMS_MAX:
            raise ValueError("no list")
        return tuple(check(item) for item in value)

    return check_all


def _items(value: Any, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise ValueError("no list, or one of another length")
    return value


_version = _number(7, first=4)
_ifindex = _optional(_number(_INT, first=1))
_table = _optional(_number(_UNSIGNED, first=TABLE_OFF))
_mtu = _optional(_number(_INT))
_unsigned = _number(_UNSIGNED)
_texts = _each(_text)


def _ip_version(value: Any) -> int:
    if _version(value) not in BITS:
        raise ValueError("no IP version")
    return int(value)


def _pin(value: Any) -> Route:
    """Read a host route that keeps an endpoint out of the tunnel; a wider one is none of ours."""
    prefix, *rest = _items(value, 2, len(Route._fields))
    version, address, length = _items(prefix, 3, 3)
    bits = BITS[_ip_version(version)]
    host = Prefix(version, _number(1 << bits)(address), _number(bits + 1, first=bits)(length))
    checks = (_ifindex, _optional(_gateway), _table, _flag, _mtu, _flag)
    checked = [check(item) for check, item in zip(checks, rest, strict=False)]
    route = Route(host, *checked)
    if route.ifindex is None and route.gateway is None and not route.blackhole:
        raise ValueError("a route to nowhere")
    return route


def _gateway(value: Any) -> str:
    family = _socket.AF_INET6 if ":" in _text(value) else _socket.AF_INET
    try:
        _socket.inet_pton(family, value.partition("%")[0])
    except OSError:
        raise ValueError("no address") from None
    return _text(value)


def _rule_pair(value: Any) -> RulePair:
    version, selecting, suppressing = _items(value, 3, 3)
    return RulePair(_ip_version(version), _unsigned(selecting), _unsigned(suppressing))


def _hooks(value: Any) -> Hooks:
    return Hooks(*(_texts(group) for group in _items(value, 0, len(Hooks._fields))))


CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _interface,
    "boot_id": _text,
    "phase": _one_of(*PHASES),
    "backend": _one_of(*BACKENDS),
    "ifindex": _number(_INT),
    "kernel_name": _interface,
    "pid": _number(_INT),  # os.pidfd_open() insists on a C int
    "start_id": _text,
    "since": _moment,
    "path": _text,
    "digest": _text,
    "table": _table,
    "mtu": _number(_INT),
    "pins": _each(_pin),
    "dns": _flag,
    "name_servers": _texts,
    "full_table": _unsigned,
    "rules": _each(_rule_pair),
    "filtered": _each(_ip_version),
    "valid_mark": _one_of("", "0", "1"),
    "hooks": _hooks,
    "changes": _texts,
}
"""One for each field of `journal.Entry`; each returns the value as the entry has it."""


def checked(table: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of a journal that are what they should be, and the names of the others."""
    good: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in table.items():
        try:
            good[key] = CHECKS[key](value)
        except (KeyError, ValueError):
            wrong.append(key if key in CHECKS else "an unknown field")
    return good, tuple(dict.fromkeys(wrong))

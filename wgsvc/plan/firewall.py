"""
The packet filter of a full tunnel on Linux, as text for nft(8); wg-quick(8) makes one like it.

It drops what comes for the tunnel's own addresses by another interface, so that nobody on the
local network can find out by forged packets what the tunnel carries. And it gives the answers to
WireGuard's packets their mark back: where rp_filter is strict, the kernel drops them otherwise,
since without the mark the way back to the peer leads into the tunnel.
"""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wgsvc.values import Prefix

FAMILIES = {4: "ip", 6: "ip6"}
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def table_name(name: str) -> str:
    """Return what an interface's tables are called: not every name can be one of nft's."""
    return "wgsvc-" + "".join(each if each in PLAIN else f"_{ord(each):x}" for each in name)


def removal(name: str, versions: Sequence[int]) -> str:
    """Return what removes the tables of an interface, also where there are none."""
    tables = [f"{FAMILIES[version]} {table_name(name)}" for version in versions]
    return "".join(f"add table {table}\ndelete table {table}\n" for table in tables)


def ruleset(name: str, mark: int, versions: Sequence[int], addresses: Sequence[Prefix]) -> str:
    """Return what puts the tables in place, or in the place of what they were, all at once."""
    return removal(name, versions) + "".join(
        line
        for version in versions
        for line in _table(name, mark, version, [a.host for a in addresses if a.version == version])
    )


def _table(name: str, mark: int, version: int, hosts: list[str]) -> Iterator[str]:
    family = FAMILIES[version]
    yield f"table {family} {table_name(name)} {{\n"
    yield "  chain early {\n    type filter hook prerouting priority -300;\n"
    for host in hosts:
        yield f'    iifname != "{name}" {family} daddr {host} fib saddr type != local drop\n'
    yield "  }\n  chain incoming {\n    type filter hook prerouting priority -150;\n"
    yield "    meta l4proto udp meta mark set ct mark\n"
    yield "  }\n  chain outgoing {\n    type filter hook postrouting priority -150;\n"
    yield f"    meta l4proto udp mark {mark} ct mark set mark\n  }}\n}}\n"

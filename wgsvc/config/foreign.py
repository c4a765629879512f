"""
Keys and sections of other programs, whose files look like wg-quick's: told once a file.

Sources: awg(8) and amneziawg-go's README; the port net/amneziawg-tools; the Android app's
Interface.java; TunSafe's wireguard_config.cpp; the READMEs of WireSock and wireproxy;
systemd.netdev(5).
"""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.config.findings import Findings

_RANGES_SHOWN_MAX = 8

_PROGRAMS = {
    "Jc Jmin Jmax S1 S2 S3 S4 H1 H2 H3 H4 I1 I2 I3 I4 I5 J1 J2 J3 Itime AdvancedSecurity": (
        "for AmneziaWG, whose protocol WireGuard does not speak: ask who made the file for one "
        "for WireGuard"
    ),
    "Description UserLand Monitor TrackDNSChanges Routes": (
        "for awg-quick on FreeBSD: take that out; a peer's routes are `# wgsvc: routes = PREFIXES`"
    ),
    "IncludedApplications ExcludedApplications": (
        "for the WireGuard app on Android, about its other apps: take that out"
    ),
    "ObfuscateKey ObfuscateTCP ListenPortTCP BlockDNS BlockInternet ExcludedIPs AllowMulticast": (
        "for TunSafe: take that out if the other end speaks plain WireGuard over UDP"
    ),
    "AllowedApps DisallowedApps DisallowedIPs": "for WireSock on Windows: take that out",
    "WGConfig [Socks5] [http] [TCPClientTunnel] [TCPServerTunnel] [STDIOTunnel]": (
        "for wireproxy: take that out"
    ),
    "Reserved": "for clients of Cloudflare WARP, and nothing of WireGuard's: take that out",
    "[NetDev] [WireGuard] [WireGuardPeer] PrivateKeyFile PresharedKeyFile FirewallMark "
    "RouteTable RouteMetric": (
        "for systemd-networkd (systemd.netdev(5)): wg-quick's files have [Interface] and [Peer]"
    ),
}
"""Keys and [sections] of a program; what a line with one of them is, and what to do."""

_KNOWN = {
    word.lower().encode(): (word, what)
    for words, what in _PROGRAMS.items()
    for word in words.split()
}


class Foreign:
    """What one file has of other programs."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, _Lines] = {}

    def take(self, word: bytes, line: int, column: int) -> bool:
        """Note a key or [section], in small letters; False if no program is known for it."""
        name, what = _KNOWN.get(word, ("", ""))
        if name:
            self._found.setdefault(what, _Lines(line, column)).add(name, line)
        return bool(name)

    def report(self, findings: Findings) -> None:
        """Make one error of what belongs to one program."""
        for what, lines in self._found.items():
            message = f"{lines} {what}"
            findings.error(self._file, lines.line, lines.column, lines.names[0], message, rule=what)


class _Lines:
    """The lines of one program: the first, which there are, and what stands in them."""

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.names: list[str] = []
        self._ranges: list[list[int]] = []

    def add(self, name: str, line: int) -> None:
        if name not in self.names:
            self.names.append(name)
        if self._ranges and self._ranges[-1][1] in (line, line - 1):
            self._ranges[-1][1] = line
        elif len(self._ranges) <= _RANGES_SHOWN_MAX:
            self._ranges.append([line, line])

    def __str__(self) -> str:
        shown = [
            str(first) if first == last else f"{first} to {last}"
            for first, last in self._ranges[:_RANGES_SHOWN_MAX]
        ]
        if len(self._ranges) > _RANGES_SHOWN_MAX:
            shown.append("others")
        several = len(shown) > 1 or " to " in shown[0]
        named = f"line{'s' if several else ''} {', '.join(shown)} ({', '.join(self.names)})"
        return f"{named} {'are' if several else 'is'}"

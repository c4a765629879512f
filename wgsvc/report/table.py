"""A snapshot as a table that fits a terminal."""

from __future__ import annotations

import os
import sys
import time

from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.report.snapshot import peers_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLOURS = {"up": "32", "down": "90", "failed": "31", "degraded": "33"}


def render(snapshot: Mapping[str, Any], *, verbose: bool = False) -> str:
    """Return the table; with `verbose` a line for each peer too."""
    tunnels = snapshot["tunnels"]
    if not tunnels:
        return "no tunnel is running"
    rows = [
        ("INTERFACE", "STATE", "PID", "PORT", "PEERS", "HANDSHAKE", "RX", "TX", "SINCE"),
        *(_row(tunnel) for tunnel in tunnels),
    ]
    lines = columns(rows)
    for tunnel in tunnels:
        if tunnel.get("reason"):
            lines.append(f"{tunnel['name']}: {tunnel['reason']}")
        others = [child for child in tunnel["children"] if child["role"] != "wireguard-go"]
        if others:
            told = ", ".join(f"{child['role']} {child['pid']}" for child in others)
            lines.append(f"{tunnel['name']}: {told}")
        if verbose:
            lines += _peers(tunnel)
    supervisor = snapshot.get("supervisor")
    if supervisor:
        lines.append(f"supervisor: PID {supervisor['pid']}, since {clock(supervisor['since'])}")
    return "\n".join(lines)


def _row(tunnel: Mapping[str, Any]) -> tuple[str, ...]:
    peers = tunnel["peers"]
    latest = max((peer["last_handshake"] or 0 for peer in peers), default=0)
    state = "degraded" if tunnel.get("degraded") else tunnel["state"]
    pids = [str(c["pid"]) for c in tunnel["children"] if c["role"] == "wireguard-go"]
    return (
        tunnel["name"],
        state,
        pids[0] if pids else "-",
        str(tunnel["listen_port"] or "-"),
        f"{peers_up(tunnel)}/{len(peers)}",
        ago(time.time() - latest) if latest else "-",
        size(sum(peer["rx_bytes"] for peer in peers)),
        size(sum(peer["tx_bytes"] for peer in peers)),
        clock(tunnel["since"]) if tunnel["since"] else "-",
    )


def _peers(tunnel: Mapping[str, Any]) -> list[str]:
    rows = [("  PEER", "ENDPOINT", "HANDSHAKE", "RX", "TX", "ALLOWED IPS")]
    for peer in tunnel["peers"]:
        seen = peer["last_handshake"]
        endpoint = peer["endpoint"] or peer["configured_endpoint"] or "-"
        rows.append(
            (
                f"  {peer['name'] or peer['public_key'][:12]}",
                f"{endpoint} (unresolved)" if peer["unresolved"] else endpoint,
                ago(time.time() - seen) if seen else "-",
                size(peer["rx_bytes"]),
                size(peer["tx_bytes"]),
                ", ".join(peer["allowed_ips"][:4])
                + (f" (+{len(peer['allowed_ips']) - 4})" if len(peer["allowed_ips"]) > 4 else ""),
            )
        )
    return columns(rows) if len(rows) > 1 else []


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines, columns aligned, states coloured where that is wanted."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    colour = wants_colour()
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if colour:
            cells = [
                f"\x1b[{COLOURS[cell]}m{padded}\x1b[0m" if cell in COLOURS else padded
                for cell, padded in zip(row, cells, strict=True)
            ]
        lines.append("  ".join(cells).rstrip())
    return lines


def wants_colour() -> bool:
    """Whether stdout is a terminal whose owner did not say NO_COLOR (no-color.org)."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def size(count: float) -> str:
    """Return bytes for people: 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def ago(seconds: float) -> str:
    """Return a duration for people: 2m05s ago."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s ago"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s ago"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m ago"


def clock(moment: float) -> str:
    """Return a time of day, with the date if that is not today's."""
    then, now = time.localtime(moment), time.localtime()
    if then[:3] == now[:3]:
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%Y-%m-%d %H:%M", then)

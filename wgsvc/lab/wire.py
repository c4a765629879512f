"""What captures prove: judged from frames alone, so that each verdict can be tried on bytes."""

from __future__ import annotations

from collections.abc import Mapping

from wgsvc.lab import network
from wgsvc.lab.check import Check, Shown
from wgsvc.lab.network import PATTERN, PORT
from wgsvc.lab.packets import MESSAGE_NAMES, Frame, Seen, hex_line, parse_ipv4, summarize

ENDPOINTS = (network.ENDPOINTS["vpnr1"], network.ENDPOINTS["vpnr2"])


def only_ciphertext(captures: Mapping[str, list[Frame]], dropped: int = 0) -> Check:
    """
    Judge what r1 saw while the sites talked: WireGuard messages both ways, and nothing else.

    Frames lost to the capture make it fail: they could have been anything.
    """
    passed = dropped == 0
    findings: dict[str, list[str]] = {}
    shown: dict[tuple[str, ...], list[str]] = {}
    for interface, frames in captures.items():
        seen = summarize(frames, ENDPOINTS, PORT)
        both_ways = len(seen.directions) == 2
        passed = passed and seen.only_ciphertext and both_ways
        findings.setdefault(_wire_text(seen), []).append(interface)
        shown.setdefault(_wire_lines(seen, frames), []).append(interface)
    measured = [f"{' and '.join(where)}: {what}" for what, where in findings.items()]
    if dropped:
        measured.append(f"{dropped} frames lost")
    evidence = tuple(
        Shown("r1", f"capture {' and '.join(where)}", lines) for lines, where in shown.items()
    )
    return Check("inside: r1 can't read it", passed, "; ".join(measured), evidence)


def _wire_text(seen: Seen) -> str:
    types = ", ".join(f"type {kind}: {count}" for kind, count in sorted(seen.messages.items()))
    parts = [types or "no WireGuard message"]
    if seen.icmp_clear:
        parts.append(f"ICMP in clear: {len(seen.icmp_clear)}")
    if seen.strange:
        parts.append(f"other: {len(seen.strange)}")
    parts.append(f"{PATTERN.decode()}: {seen.pattern}")
    return ", ".join(parts)


def _wire_lines(seen: Seen, frames: list[Frame]) -> tuple[str, ...]:
    ways = " and ".join(f"{source} > {target}" for source, target in sorted(seen.directions))
    lines = [f"UDP {PORT}, {ways}"] if ways else []
    lines += [
        f"{count:4} x type {kind}, {MESSAGE_NAMES[kind]}"
        for kind, count in sorted(seen.messages.items())
    ]
    lines += [*seen.icmp_clear[:4], *seen.strange[:4]]
    readable = [frame for frame in frames if PATTERN in frame.data]
    return tuple(lines + [f"    {hex_line(frame, PATTERN)}" for frame in (readable or frames)[-1:]])


def inside_is_readable(frames: list[Frame]) -> Check:
    """See in site 2 what vpnh1 sent, in clear again: it was carried, not lost."""
    sender = network.link("vpnh1", "vri1_vpnh1").address
    readable = [
        frame
        for frame in frames
        if (datagram := parse_ipv4(frame.data)) is not None
        and datagram.source == sender
        and PATTERN in datagram.payload
    ]
    measured = f"vri2_vpnr2: from {sender}, {PATTERN.decode()}: {len(readable)}"
    look = tuple(f"    {hex_line(frame, PATTERN)}" for frame in readable[:1])
    shown = Shown("vpnr2", "capture vri2_vpnr2", look)
    return Check("site 2 reads it again", bool(readable), measured, (shown,))

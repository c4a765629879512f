"""
The checks of the laboratory, in order: each measures something and says pass or fail.

A check never raises for what it is there to find; what it could not measure is a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing

from wgsvc.lab import network
from wgsvc.lab.check import Check, Shown
from wgsvc.lab.compare import Snapshot, counts, differences
from wgsvc.lab.hosts import Capture, Completed, Hosts
from wgsvc.lab.network import PATTERN, PORT, TUNNEL, VPN_ROUTERS
from wgsvc.lab.packets import Frame, hex_line, summarize
from wgsvc.lab.wire import ENDPOINTS, inside_is_readable, only_ciphertext

_SETTLE_TIMEOUT_S = 5.0


Save = Callable[[str, list[Frame]], None]
"""Keeps the frames of a capture under a name."""


class Trial:
    """What the checks share: the hosts, how they were before, what was captured."""

    def __init__(self, hosts: Hosts, save: Save = lambda _name, _frames: None) -> None:
        self.hosts = hosts
        self.save = save
        self.before: dict[str, Snapshot] = {}

    def watch(self, *places: tuple[str, str]) -> Watch:
        """Capture on these (host, interface) places at once."""
        return Watch({place: self.hosts.capture(*place) for place in places})


class Watch:
    """Captures that run together."""

    def __init__(self, captures: Mapping[tuple[str, str], Capture]) -> None:
        self._captures = captures
        self.dropped = 0

    def close(self) -> None:
        """End them."""
        for capture in self._captures.values():
            capture.close()

    def read(self) -> dict[str, list[Frame]]:
        """Return interface -> frames since the start."""
        frames = {place[1]: capture.read() for place, capture in self._captures.items()}
        self.dropped = sum(capture.dropped() for capture in self._captures.values())
        return frames


def starts(trial: Trial) -> Check:
    """Start the service in both VPN routers as their administrators do."""
    trial.before = {host: trial.hosts.inside(host) for host in network.HOSTS}
    return _service(trial, "start", "up")


def routing_table(trial: Trial) -> Check:
    """Read the routing table of vpnr1: the far site by the tunnel, all else by r1."""
    command, lines, routes = trial.hosts.routing_table("vpnr1")
    by_tunnel = {route.prefix for route in routes if route.interface == TUNNEL}
    default = {route.gateway for route in routes if route.prefix == "default"}
    wanted = network.FAR_PREFIXES["vpnr1"]
    gateway = network.DEFAULT_GATEWAYS["vpnr1"]
    passed = by_tunnel.issuperset(wanted) and default == {gateway}
    measured = (
        f"{' and '.join(sorted(by_tunnel & set(wanted))) or 'nothing'} by {TUNNEL}, "
        f"default by {', '.join(default) or 'nothing'}"
    )
    return Check("routes of vpnr1", passed, measured, (Shown("vpnr1", command, tuple(lines)),))


def outside_is_readable(trial: Trial) -> Check:
    """Ping outside the tunnel: r1 has to read the pattern, or its silence later proves nothing."""
    ping = network.OUTSIDE_PING
    with closing(trial.watch(("r1", "vi1_r1"))) as watch:
        done = trial.hosts.ping(ping.host, ping.target, pattern=PATTERN)
        frames = watch.read()["vi1_r1"]
    trial.save("outside.vi1_r1", frames)
    readable = [frame for frame in frames if PATTERN in frame.data]
    seen = summarize(frames, ENDPOINTS, PORT)
    passed = done.code == 0 and len(readable) >= 2 and len(seen.icmp_clear) >= 2
    text = PATTERN.decode()
    measured = f"vi1_r1: ICMP in clear: {len(seen.icmp_clear)}, {text}: {len(readable)}"
    look = tuple(
        line
        for what, frame in zip(seen.icmp_clear, readable, strict=False)
        for line in (what, f"    {hex_line(frame, PATTERN)}")
    )
    shown = (
        Shown(ping.host, trial.hosts.ping_text(ping.target, pattern=PATTERN), _answers(done)),
        Shown("r1", "capture vi1_r1", look),
    )
    return Check("outside: r1 reads it", passed, measured, shown)


def tunnel_carries(trial: Trial) -> list[Check]:
    """Ping between the sites from everywhere, watched from r1 and from inside site 2."""
    places = (("r1", "vi1_r1"), ("r1", "vi2_r1"), ("vpnr2", "vri2_vpnr2"))
    answered, times_ms, shown = 0, [], []
    with closing(trial.watch(*places)) as watch:
        for ping in network.TUNNEL_PINGS:
            done = trial.hosts.ping(ping.host, ping.target, pattern=PATTERN)
            answered += done.code == 0
            times_ms += round_trips_ms(done.output)
            command = trial.hosts.ping_text(ping.target, pattern=PATTERN)
            shown.append(Shown(ping.host, command, _answers(done)))
        frames = watch.read()
        dropped = watch.dropped
    for interface, seen in frames.items():
        trial.save(f"tunnel.{interface}", seen)
    total = len(network.TUNNEL_PINGS)
    measured = f"{answered} of {total} pings answered"
    if times_ms:
        measured += f", {min(times_ms):.1f} to {max(times_ms):.1f} ms"
    return [
        Check("pings through the tunnel", answered == total, measured, tuple(shown)),
        only_ciphertext({name: frames[name] for name in ("vi1_r1", "vi2_r1")}, dropped),
        inside_is_readable(frames["vri2_vpnr2"]),
    ]


def stranger_stays_out(trial: Trial) -> Check:
    """Ping into a site from r1, which is outside: no answer may come."""
    ping = network.STRANGER_PING
    done = trial.hosts.ping(ping.host, ping.target, pattern=PATTERN)
    said = next(iter(_answers(done)), f"exit status {done.code}")
    command = trial.hosts.ping_text(ping.target, pattern=PATTERN)
    passed = done.code not in (0, 124, 127) and not round_trips_ms(done.output)
    measured = f"no answer from {ping.target}" if passed else said
    shown = Shown(ping.host, command, (said,))
    return Check("no way in from r1", passed, measured, (shown,))


def handshake(trial: Trial) -> Check:
    """Ask wg(8) in both VPN routers for the time of the last handshake."""
    ages, shown = [], []
    for host in VPN_ROUTERS:
        done = trial.hosts.run(host, ["wg", "show", TUNNEL, "latest-handshakes"])
        stamps = [int(line.split()[-1]) for line in done.output.splitlines() if line.strip()]
        ages += [(host, time.time() - stamp) for stamp in stamps if stamp > 0]
    for host in VPN_ROUTERS[:1]:
        done = trial.hosts.run(host, ["wg", "show"])
        shown.append(Shown(host, "wg show", tuple((done.output or done.errors).splitlines())))
    measured = ", ".join(f"{host} {max(age, 0):.0f} s ago" for host, age in ages)
    passed = {host for host, _ in ages} == set(VPN_ROUTERS)
    return Check("handshake in wg show", passed, measured or "none", tuple(shown))


def stops(trial: Trial) -> Check:
    """Stop the service in both VPN routers."""
    return _service(trial, "stop", "down")


def nothing_left_in_hosts(trial: Trial) -> Check:
    """Compare all five hosts with what they were before the start."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    while True:
        after = {host: trial.hosts.inside(host) for host in network.HOSTS}
        found = [
            f"{host}: {difference}"
            for host in network.HOSTS
            for difference in differences(trial.before[host], after[host])
        ]
        # The supervisor ends after its last tunnel: it may still be on its way out.
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    merged = Snapshot(
        *(
            frozenset(f"{host} {thing}" for host in network.HOSTS for thing in after[host][index])
            for index in range(len(Snapshot._fields))
        )
    )
    measured = "; ".join(found[:3]) or f"as before: {counts(merged)}"
    shown = (Shown("all", "before and after", tuple(found)),) if found else ()
    return Check("nothing left in the hosts", not found, measured, shown)


def nothing_left_outside(before: Snapshot, after: Snapshot) -> Check:
    """Compare the machine after the network was removed with what it was before."""
    found = [str(difference) for difference in differences(before, after)]
    measured = "; ".join(found[:3]) or f"as before: {counts(after)}"
    shown = (Shown("here", "before and after", tuple(found)),) if found else ()
    return Check("nothing left on the machine", not found, measured, shown)


SEQUENCE: tuple[tuple[str, Callable[[Trial], Check | list[Check]]], ...] = (
    ("reading the routing table of vpnr1", routing_table),
    ("pinging outside the tunnel", outside_is_readable),
    ("pinging through the tunnel", tunnel_carries),
    ("knocking from r1", stranger_stays_out),
    ("asking wg for handshakes", handshake),
    (f"stopping {TUNNEL}", stops),
    ("comparing the hosts with before", nothing_left_in_hosts),
)
"""What is done and by which check, after `starts`."""


def _service(trial: Trial, verb: str, outcome: str) -> Check:
    passed, parts, shown = True, [], []
    for host in VPN_ROUTERS:
        done = trial.hosts.service(host, verb, TUNNEL)
        passed = passed and done.code == 0
        result = outcome if done.code == 0 else f"exit status {done.code}"
        parts.append(f"{host} {result} in {done.duration_s * 1000:.0f} ms")
        lines = tuple((done.output + done.errors).splitlines())
        shown.append(Shown(host, f"wgsvc {verb} {TUNNEL}", lines))
    return Check(f"wgsvc {verb} {TUNNEL}", passed, ", ".join(parts), tuple(shown))


def round_trips_ms(output: str) -> list[float]:
    """Return the times in the `time=0.147 ms` of ping's answers; the same on all systems."""
    found = []
    for line in output.splitlines():
        _, mark, rest = line.partition(" time=")
        if mark:
            found.append(float(rest.split()[0]))
    return found


def _answers(done: Completed) -> tuple[str, ...]:
    """Return ping's answers, or what else it said that explains why there are none."""
    said = done.output.splitlines()
    lines = [line for line in said if " bytes from " in line]
    return tuple(
        lines or [*done.errors.splitlines(), *(line for line in said if "transmitted" in line)]
    )

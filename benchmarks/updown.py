#!/usr/bin/env python3
"""
wg-quick and wgsvc side by side: up and down by turns in one run, in namespaces of their own.

Each round starts cold: no daemon, no interface. Both read the same file; its AllowedIPs stand
one a line, since on one long line wg-quick takes time that grows with its square. What counts
are the ratios: seconds are this machine's. Linux, as root.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import measure

NAME = "bench0"
FILE = f"/etc/wireguard/{NAME}.conf"


def main() -> int:
    """Measure, show."""
    options = arguments()
    if sys.platform != "linux" or os.geteuid() != 0:
        print("updown: needs Linux and root: namespaces, tun interfaces", file=sys.stderr)
        return os.EX_UNAVAILABLE
    env = {**os.environ, "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once, as a package is
    measure.enter_namespaces()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))  # children inherit it
    loads = [os.getloadavg()[0]]
    sizes = []
    for size in options.sizes:
        sizes.append(up_and_down(size, options, env))
        if not options.json:
            show_size(sizes[-1])
    resident = residence(options, env)
    loads.append(os.getloadavg()[0])
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": sys.version.split()[0], "loads": loads}
        print(json.dumps({"machine": machine, "sizes": sizes, **resident}, indent=2))
    else:
        show_resident(resident)
        print(f"load average: {loads[0]:.1f} at the beginning, {loads[1]:.1f} at the end")
    return 0


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="wg-quick and wgsvc, by turns, in one run")
    parser.add_argument(
        "--sizes", type=numbers, default=[2, 100, 1000, 5000], metavar="N,N", help="AllowedIPs"
    )
    parser.add_argument("--rounds", type=int, default=15, help="of each; fewer of large sizes")
    parser.add_argument("--one-line", action="store_true", help="all AllowedIPs on one line")
    parser.add_argument("--idle", type=float, default=10.0, metavar="S", help="idle seconds")
    parser.add_argument(
        "--wgsvc",
        default=os.path.join(os.path.dirname(sys.executable), "wgsvc"),
        help="the command (default: the one beside this Python)",
    )
    parser.add_argument(
        "--realtime", action="store_true", help="run ahead of whatever else keeps the machine busy"
    )
    parser.add_argument("--json", action="store_true", help="all runs, as JSON")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Return `1,2,3` as numbers."""
    return [int(part) for part in text.split(",")]


def write_file(size: int, *, one_line: bool) -> None:
    """Write a configuration with one peer and this many AllowedIPs."""
    prefixes = [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/32" for n in range(1, size + 1)]
    lines = [", ".join(prefixes)] if one_line else prefixes
    key = base64.b64encode(os.urandom(32)).decode()
    peer = base64.b64encode(bytes([9] * 32)).decode()
    with open(FILE, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(f"[Interface]\nPrivateKey = {key}\nAddress = 192.168.222.1/32\n")
        file.write(f"ListenPort = 51820\n[Peer]\nPublicKey = {peer}\n")
        file.write("Endpoint = 198.51.100.2:51820\n")
        file.writelines(f"AllowedIPs = {line}\n" for line in lines)


def up_and_down(size: int, options: argparse.Namespace, env: dict[str, str]) -> dict[str, Any]:
    """Return the runs of one size, one tool after the other, who is first taking turns."""
    write_file(size, one_line=options.one_line)
    rounds = options.rounds if size <= 100 else max(2, min(options.rounds, 3000 // size))
    runs: dict[str, list[measure.Run]] = {
        f"{tool} {verb}": [] for tool in ("wg-quick", "wgsvc") for verb in ("up", "down")
    }
    for turn in range(-1 if size <= 100 else 0, rounds):  # the first one only warms the caches
        tools = ("wg-quick", "wgsvc") if turn % 2 else ("wgsvc", "wg-quick")
        for tool in tools:
            taken = wg_quick(env) if tool == "wg-quick" else wgsvc(options.wgsvc, env)
            if turn >= 0:
                runs[f"{tool} up"].append(taken[0])
                runs[f"{tool} down"].append(taken[1])
    return {
        "allowed_ips": size,
        "one_line": options.one_line,
        "rounds": rounds,
        "runs": {what: summary(taken) for what, taken in runs.items()},
        "times_faster": {verb: ratio(runs, verb) for verb in ("up", "down")},
    }


def wg_quick(env: dict[str, str]) -> tuple[measure.Run, measure.Run]:
    """Run wg-quick up and down."""
    up = measure.timed(["wg-quick", "up", NAME], env)
    down = measure.timed(["wg-quick", "down", NAME], env)
    measure.wait_until_gone(NAME, None)
    return up, down


def wgsvc(command: str, env: dict[str, str]) -> tuple[measure.Run, measure.Run]:
    """Run wgsvc start and stop; the daemon comes and goes with its only tunnel."""
    up = measure.timed([command, "start", NAME], env)
    pid = supervisor()
    down = measure.timed([command, "stop", NAME], env)
    measure.wait_until_gone(NAME, pid)
    return up, down


def supervisor() -> int:
    """Return the PID of the daemon."""
    with open("/run/wgsvc/wgsvc.pid", encoding="ascii") as file:
        return int(file.read())


def residence(options: argparse.Namespace, env: dict[str, str]) -> dict[str, Any]:
    """Return what status costs, and what a daemon with one tunnel costs while it idles."""
    write_file(2, one_line=False)
    measure.timed([options.wgsvc, "start", NAME], env)
    pid = supervisor()
    commands = {
        "bare python": [sys.executable, "-I", "-c", ""],
        "wgsvc status": [options.wgsvc, "status"],
        "wgsvc status --json": [options.wgsvc, "status", "--json"],
        "wg show": ["wg", "show", NAME],
    }
    runs: dict[str, list[measure.Run]] = {what: [] for what in commands}
    for turn in range(-1, options.rounds * 2):
        for what, argv in commands.items():
            taken = measure.timed(argv, env)
            if turn >= 0:
                runs[what].append(taken)
    helpers = [c for c, name in measure.children_of(pid).items() if name != "wireguard-go"]
    before = measure.switches([pid, *helpers])
    time.sleep(options.idle)  # the thing measured is what happens while nothing does
    woken = measure.switches([pid, *helpers]) - before
    rss_kib = {p: measure.status_field(p, "VmRSS") for p in (pid, *helpers)}
    measure.timed([options.wgsvc, "stop", NAME], env)
    measure.wait_until_gone(NAME, pid)
    return {
        "status": {what: summary(taken) for what, taken in runs.items()},
        "daemon": {
            "rss_mib": round(rss_kib[pid] / 1024, 1),
            "helpers_rss_mib": [round(rss_kib[helper] / 1024, 1) for helper in helpers],
            "wakeups_per_second": woken / options.idle,
            "idle_seconds": options.idle,
        },
    }


def summary(taken: Sequence[measure.Run]) -> dict[str, Any]:
    """Return minimum and median of runs, and the runs."""
    wall = [run.wall_ms for run in taken]
    cpu = [run.cpu_ms for run in taken]
    return {
        "median_ms": round(statistics.median(wall), 2),
        "min_ms": round(min(wall), 2),
        "cpu_median_ms": round(statistics.median(cpu), 2),
        "cpu_min_ms": round(min(cpu), 2),
        "wall_ms": [round(one, 2) for one in wall],
    }


def ratio(runs: dict[str, list[measure.Run]], verb: str) -> dict[str, float]:
    """Return how many times faster wgsvc was."""
    both = [[run.wall_ms for run in runs[f"{tool} {verb}"]] for tool in ("wg-quick", "wgsvc")]
    return {
        "median": round(statistics.median(both[0]) / statistics.median(both[1]), 2),
        "min": round(min(both[0]) / min(both[1]), 2),
    }


def show_size(found: dict[str, Any]) -> None:
    """Print the rows of one size."""
    where = "one line" if found["one_line"] else "one a line"
    print(f"{found['allowed_ips']} AllowedIPs ({where}), {found['rounds']} rounds")
    print(f"  {'ms':6} {'wg-quick':>20} {'wgsvc':>20} {'times faster':>14}")
    print(f"  {'':6} {'median':>12} {'min':>7} {'median':>12} {'min':>7} {'median':>7} {'min':>6}")
    for verb in ("up", "down"):
        theirs, ours = (found["runs"][f"{tool} {verb}"] for tool in ("wg-quick", "wgsvc"))
        times = found["times_faster"][verb]
        print(
            f"  {verb:6} {theirs['median_ms']:12.1f} {theirs['min_ms']:7.1f}"
            f" {ours['median_ms']:12.1f} {ours['min_ms']:7.1f}"
            f" {times['median']:6.1f}x {times['min']:5.1f}x",
            flush=True,
        )


def show_resident(resident: dict[str, Any]) -> None:
    """Print status and the daemon's costs."""
    print(f"status of one tunnel\n  {'ms':22} {'median':>8} {'min':>8} {'CPU min':>8}")
    for what, taken in resident["status"].items():
        print(
            f"  {what:22} {taken['median_ms']:8.1f} {taken['min_ms']:8.1f}"
            f" {taken['cpu_min_ms']:8.1f}"
        )
    daemon = resident["daemon"]
    print("daemon with one tunnel")
    print(f"  RSS {daemon['rss_mib']} MiB")
    for rss_mib in daemon["helpers_rss_mib"]:
        print(f"  RSS {rss_mib} MiB of a helper process")
    print(
        f"  {daemon['wakeups_per_second']:g} wake-ups a second"
        f" over {daemon['idle_seconds']:g} idle seconds"
    )


if __name__ == "__main__":
    sys.exit(main())

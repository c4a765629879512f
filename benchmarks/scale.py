#!/usr/bin/env python3
"""
From 100 to 20 000 peers: start, reload, status, stop, and the supervisor's memory.

Each peer has one AllowedIP, which is one route. The fastest of some rounds counts: the others
say what else the machine did. wg-quick runs beside it where it ends in reasonable time; it has
no reload, what people use for one is `wg syncconf`, which leaves routes and addresses as they are.
Linux, as root, in namespaces of its own. `--write` puts table and plot into docs/.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import sys
from collections.abc import Sequence
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from benchmarks import measure  # noqa: E402 - the script runs without being installed

NAME = "scale0"
FILE = f"/etc/wireguard/{NAME}.conf"
SIZES = [100, 500, 1000, 2000, 5000, 10_000, 20_000]
BEGIN, END = "<!-- scale: begin -->", "<!-- scale: end -->"
COLUMNS = {
    "start": "start",
    "reload, unchanged": "reload, no change",
    "reload, one more": "reload, one AllowedIP more",
    "status": "status",
    "stop": "stop",
    "wg-quick up": "wg-quick up",
    "wg syncconf": "wg syncconf",
    "wg-quick down": "wg-quick down",
}


def main() -> int:
    """Measure or read figures; show, write, plot."""
    options = arguments()
    if options.figures:
        with open(options.figures, encoding="ascii") as file:
            found = json.load(file)
    else:
        if sys.platform != "linux" or os.geteuid() != 0:
            print("scale: needs Linux and root: namespaces, tun interfaces", file=sys.stderr)
            return os.EX_UNAVAILABLE
        measure.enter_namespaces()
        found = {
            "machine": {"cpus": os.cpu_count(), "python": sys.version.split()[0]},
            "sizes": [size_of(size, options) for size in options.sizes],
        }
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(table(found["sizes"]))
        print(growth(found["sizes"]))
    if options.write:
        write(found)
        plot(found["sizes"], os.path.join(ROOT, "docs", "scale.png"))
    return 0


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="100 to 20 000 peers")
    parser.add_argument(
        "--sizes",
        default=SIZES,
        type=lambda text: [int(part) for part in text.split(",")],
        metavar="N,N",
        help="peers",
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each size")
    parser.add_argument(
        "--wg-quick-up-to", type=int, default=2000, metavar="N", help="it takes long beyond that"
    )
    parser.add_argument(
        "--wgsvc",
        default=os.path.join(os.path.dirname(sys.executable), "wgsvc"),
        help="the command (default: the one beside this Python)",
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--figures", metavar="FILE", help="take them from here, measure nothing")
    parser.add_argument("--write", action="store_true", help="docs/performance.md, docs/scale.png")
    return parser.parse_args()


def write_file(size: int, *, more: str = "") -> None:
    """Write a configuration; `more` is an AllowedIP that the peer in the middle has beside its."""
    keys = random.Random(size)  # noqa: S311 - the same peers each time, not secrets
    with open(FILE, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        private = base64.b64encode(bytes([8] * 31 + [65])).decode()
        file.write(f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\n")
        file.write("Address = 192.168.222.1/32\n")
        for number in range(size):
            key = base64.b64encode(keys.randbytes(32)).decode()
            extra = f", {more}" if more and number == size // 2 else ""
            file.write(
                f"\n[Peer]\nPublicKey = {key}\nAllowedIPs = "
                f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32{extra}\n"
            )


def size_of(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one number of peers."""
    env = {**os.environ, "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    runs: dict[str, list[float]] = {}
    memory: list[float] = []

    def take(what: str, *argv: str) -> None:
        runs.setdefault(what, []).append(measure.timed(argv, env).wall_ms)

    for _ in range(options.rounds):
        write_file(size)
        take("start", options.wgsvc, "start", NAME)
        take("reload, unchanged", options.wgsvc, "reload", NAME)
        write_file(size, more="172.16.0.0/24")
        take("reload, one more", options.wgsvc, "reload", NAME)
        take("status", options.wgsvc, "status", NAME)
        take("wg syncconf", "bash", "-c", f"wg syncconf {NAME} <(wg-quick strip {NAME})")
        with open("/run/wgsvc/wgsvc.pid", encoding="ascii") as file:
            pid = int(file.read())
        memory.append(measure.status_field(pid, "VmRSS") / 1024)
        peak = measure.status_field(pid, "VmHWM") / 1024
        take("stop", options.wgsvc, "stop", NAME)
        measure.wait_until_gone(NAME, pid)
    if size <= options.wg_quick_up_to:
        write_file(size)
        take("wg-quick up", "wg-quick", "up", NAME)
        take("wg-quick down", "wg-quick", "down", NAME)
        measure.wait_until_gone(NAME, None)
    print(f"{size} peers", file=sys.stderr)
    return {
        "peers": size,
        "ms": {what: round(min(taken), 1) for what, taken in runs.items()},
        "rss_mib": round(max(memory), 1),
        "peak_mib": round(peak, 1),
    }


def table(sizes: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        "| peers | " + " | ".join(f"{title}, ms" for title in COLUMNS.values()) + " | RSS, MiB |",
        "|--:" * (len(COLUMNS) + 2) + "|",
    ]
    for found in sizes:
        cells = [f"{found['ms'][what]:.0f}" if what in found["ms"] else "" for what in COLUMNS]
        lines.append(f"| {found['peers']} | " + " | ".join(cells) + f" | {found['rss_mib']:.0f} |")
    return "\n".join(lines)


def growth(sizes: Sequence[dict[str, Any]]) -> str:
    """Return what a peer more costs, between the sizes at the ends and in the middle."""
    ends = [found for found in sizes if found["peers"] >= 1000]
    if len(ends) < 3:
        return ""
    first, middle, last = ends[0], ends[len(ends) // 2], ends[-1]

    def cost(what: str, low: dict[str, Any], high: dict[str, Any]) -> float:
        return float(1000 * (high["ms"][what] - low["ms"][what]) / (high["peers"] - low["peers"]))

    lines = [
        f"{what}: {cost(what, first, middle):.0f} µs a peer from {first['peers']} to "
        f"{middle['peers']}, {cost(what, middle, last):.0f} µs from there to {last['peers']}"
        for what in ("start", "reload, unchanged", "stop")
    ]
    return "\n".join(f"* {line}" for line in lines)


def write(found: dict[str, Any]) -> None:
    """Put the table into its section of docs/performance.md; the rest of the file stays."""
    path = os.path.join(ROOT, "docs", "performance.md")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        text = "# Performance\n"
    if BEGIN not in text:
        text += f"\n## From 100 to 20 000 peers\n\n{BEGIN}\n{END}\n"
    machine = found["machine"]
    section = (
        f"`benchmarks/scale.py`, {machine['cpus']} CPUs, Python {machine['python']}, wireguard-go "
        "as Debian has it. Wall time of whole commands, the fastest of some rounds; each peer has "
        "one AllowedIP and with it a route. Empty: not run, since wg-quick forks twice a route. "
        "`wg syncconf` (with `wg-quick strip`) is what people reload with: no routes, no "
        "addresses.\n\n"
        f"{table(found['sizes'])}\n\nGrowth:\n\n{growth(found['sizes'])}\n\n"
        "![time and memory over the number of peers](scale.png)\n"
    )
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{section}{END}{after}")
    print(f"wrote {path}", file=sys.stderr)


def plot(sizes: Sequence[dict[str, Any]], path: str) -> None:
    """Draw the figures; say so if that can't be done."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plot: matplotlib is missing (pip install matplotlib)", file=sys.stderr)
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    for what, title in COLUMNS.items():
        points = [(each["peers"], each["ms"][what]) for each in sizes if what in each["ms"]]
        style = "--" if what.startswith("wg") else "-"
        if points:
            left.plot(*zip(*points, strict=True), style, marker="o", markersize=3, label=title)
    left.set(xscale="log", yscale="log", xlabel="peers", ylabel="ms", title="whole commands")
    left.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=4)
    peers = [each["peers"] for each in sizes]
    right.plot(peers, [each["rss_mib"] for each in sizes], marker="o", label="resident")
    right.plot(peers, [each["peak_mib"] for each in sizes], "--", marker="o", label="peak")
    right.set(xlabel="peers", ylabel="MiB", title="supervisor's memory", ylim=(0, None))
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(visible=True, which="both", alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

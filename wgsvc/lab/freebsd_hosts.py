"""
The laboratory's hosts on FreeBSD: VNET jails, epair cables, bridges in a jail of their own.

The five hosts are children of the jail that holds the bridges, and the cables are made in
it: no interface is ever made on the machine itself, so none can be left there.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import NamedTuple

from wgsvc.errors import BusyError, UnavailableError, WgsvcError
from wgsvc.lab import freebsd_jails, freebsd_snapshot, network
from wgsvc.lab.compare import Snapshot
from wgsvc.lab.freebsd_capture import BpfCapture
from wgsvc.lab.freebsd_jails import CONFIG_DIR, Jail
from wgsvc.lab.hosts import Completed, Progress, TableRoute
from wgsvc.lab.record import Record

SWITCH = "wgsvclab"
_CLONERS = ("bridge", "epair", "tun")
_MODULES = {"bridge": "if_bridge", "epair": "if_epair", "tun": "if_tuntap"}
_PACKAGES = {"wg": "wireguard-tools", "wireguard-go": "wireguard-go"}


class Ruleset(NamedTuple):
    """What is on record: the devfs ruleset of the lab, which no folder shows."""

    ruleset: int


def missing() -> list[str]:
    """Return what this machine lacks, each with its cure."""
    lacking = [
        f"{program} (pkg install {package})"
        for program, package in _PACKAGES.items()
        if shutil.which(program) is None
    ]
    if os.geteuid() != 0:
        return [*lacking, "root (jails and their interfaces are made by root)"]
    if _sysctl("security.jail.jailed") != "0":
        return [*lacking, "the host (this is a jail; jails are made outside)"]
    if _sysctl("kern.features.vimage") != "1":
        lacking.append("VIMAGE in the kernel (GENERIC has it since 12.0)")
    cloners = freebsd_jails.run(["ifconfig", "-C"]).output.split()
    lacking += [f"{one} (kldload {_MODULES[one]})" for one in _CLONERS if one not in cloners]
    if not os.path.isdir("/usr/local/etc"):
        lacking.append("/usr/local/etc (mkdir -p /usr/local/etc)")
    return lacking


def prepare() -> None:
    """Make sure that hosts can be made. Raises: UnavailableError with all that is missing."""
    lacking = missing()
    if lacking:
        raise UnavailableError(
            "the lab can't run here; what is missing, and how to get it: " + "; ".join(lacking)
        )


def _sysctl(name: str) -> str:
    return freebsd_jails.run(["sysctl", "-n", name]).output.strip()


class FreeBSDHosts:
    """The hosts of the laboratory on FreeBSD. Call `prepare` first."""

    platform = "freebsd"

    def __init__(self, record: Record) -> None:
        self._record = record
        self._folder = record.folder
        self._jails = {
            host: Jail(f"{SWITCH}.{host}", os.path.join(self._folder, host))
            for host in network.HOSTS
        }
        self._switch = Jail(SWITCH, os.path.join(self._folder, SWITCH))
        self._environment = {
            "PATH": "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin",
            "PYTHONPATH": freebsd_jails.package_folder(),
            "LANG": "C.UTF-8",
            "HOME": "/root",
        }

    # --- making and removing

    def claim(self) -> None:
        """Make sure that this is the only lab. Raises: BusyError."""
        left = self._record.take()
        folder = self._folder
        if left or freebsd_jails.jails_below(folder) or freebsd_jails.mounts_below(folder):
            self._record.release()
            raise BusyError(
                "a lab is there already, kept or left by an interrupted run",
                cure="wgsvc lab --remove",
            )

    def create(self, progress: Progress) -> None:
        """Make the network. Raises: OSFailureError, WgsvcError with what a command said."""
        number = freebsd_jails.free_ruleset()
        self._record.write([Ruleset(number)])
        freebsd_jails.make_ruleset(number)
        freebsd_jails.create(self._switch, number, children=len(network.HOSTS))
        for host, jail in self._jails.items():
            progress(f"making {host}")
            freebsd_jails.create(jail, number)
        progress("plugging in cables")
        self._shell(self._switch, _cables())
        for host in network.HOSTS:
            self._shell(self._jails[host], _addressing(host))
        for host, text in network.CONFIGS.items():
            path = f"{self._jails[host].root}{CONFIG_DIR}/{network.TUNNEL}.conf"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(text)

    def remove(self) -> list[str]:
        """Remove all of a lab, also one that an interrupted run left."""
        recorded = self._record.holdings() if self._record.held else self._record.take()
        removed = freebsd_jails.remove_below(self._folder)
        for entry in recorded:
            number = entry.get("ruleset")
            if isinstance(number, int) and number >= freebsd_jails.FIRST_RULESET:
                freebsd_jails.delete_ruleset(number)
        self._record.forget()
        return removed

    def keep(self) -> None:
        """Leave the lab running when this process ends."""
        self._record.release()

    def entering(self, host: str) -> str:
        """Return the command that opens a shell in a host."""
        return f"jexec {self._jails[host].name} sh"

    # --- running things in hosts

    def run(
        self, host: str, argv: list[str], *, timeout_s: float = 20.0, text: str = ""
    ) -> Completed:
        """Run a command in a host; code 124 if it had to be killed."""
        return freebsd_jails.run_with(
            self._environment,
            ["jexec", self._jails[host].name, *argv],
            timeout_s=timeout_s,
            text=text,
        )

    def service(self, host: str, *verb: str) -> Completed:
        """Run `wgsvc VERB ...` in a host, as its administrator does."""
        return self.run(host, [sys.executable, "-m", "wgsvc", *verb], timeout_s=60.0)

    def ping(self, host: str, target: str, *, pattern: bytes) -> Completed:
        """Ping once, with a pattern in the packet; 0 if the answer came."""
        return self.run(host, ["ping", "-n", "-t", "5", *_ping_words(target, pattern)])

    def ping_text(self, target: str, *, pattern: bytes) -> str:
        """Return that ping as a person types it."""
        return " ".join(["ping", *_ping_words(target, pattern)])

    def capture(self, host: str, interface: str) -> BpfCapture:
        """Start to capture on an interface of a host."""
        return BpfCapture(freebsd_jails.jid_of(self._jails[host]), interface)

    # --- looking at hosts

    def addresses(self) -> dict[tuple[str, str], str]:
        """Return (host, interface) -> first IPv4 address, as the kernels have it now."""
        found: dict[tuple[str, str], str] = {}
        for host, jail in self._jails.items():
            name = ""
            for line in self._shell(jail, "ifconfig -a").splitlines():
                words = line.split()
                if not line[:1].isspace():
                    name = line.partition(":")[0]
                elif words[0] == "inet":
                    found.setdefault((host, name), words[1])
        return found

    def routing_table(self, host: str) -> tuple[str, list[str], list[TableRoute]]:
        """Return the command that shows the IPv4 routes, its output, and the routes it lists."""
        command = "netstat -rnW -f inet"
        shown = self._shell(self._jails[host], command)
        lines = [line.rstrip() for line in shown.splitlines() if line.strip()]
        routes = []
        for prefix, gateway, interface in freebsd_snapshot.routes_of(shown):
            straight = gateway.startswith("link#") or gateway == interface
            routes.append(TableRoute(prefix, "" if straight else gateway, interface))
        return command, lines[1:], routes

    def inside(self, host: str) -> Snapshot:
        """Return what there is in a host."""
        jail = self._jails[host]
        return freebsd_snapshot.inside(jail, lambda script: self._shell(jail, script))

    def outside(self) -> Snapshot:
        """Return what there is outside the hosts."""
        return freebsd_snapshot.outside(self._folder)

    def _shell(self, jail: Jail, script: str) -> str:
        done = freebsd_jails.run(["jexec", jail.name, "sh", "-e"], text=script)
        if done.code != 0:
            raise WgsvcError(f"{jail.name}: {done.errors.strip() or f'exit status {done.code}'}")
        return done.output


def _cables() -> str:
    lines = ["ifconfig lo0 127.0.0.1/8 up"]
    lines += [f"ifconfig bridge create name {bridge} up >/dev/null" for bridge in network.BRIDGES]
    for link in network.LINKS:
        port = f"{link.interface}.b"
        lines += [
            "end=$(ifconfig epair create)",
            f'ifconfig "${{end%a}}b" vnet {link.host}',
            f'jexec {link.host} ifconfig "${{end%a}}b" name {link.interface} >/dev/null',
            f'ifconfig "$end" name {port} >/dev/null',
            _silent(port),
            f"ifconfig {port} up",
            f"ifconfig {link.bridge} addm {port}",
        ]
    return "\n".join(lines) + "\n"


def _addressing(host: str) -> str:
    lines = ["ifconfig lo0 127.0.0.1/8 up"]
    if host in network.ROUTERS:
        lines.append("sysctl -q net.inet.ip.forwarding=1 >/dev/null")
    for link in network.links_of(host):
        lines += [_silent(link.interface), f"ifconfig {link.interface} inet {link.prefix} up"]
    gateway = network.DEFAULT_GATEWAYS.get(host)
    if gateway:
        lines.append(f"route -q add default {gateway}")
    return "\n".join(lines) + "\n"


def _silent(interface: str) -> str:
    """Make an interface send nothing of itself: no link-local address, no reports."""
    return f"ifconfig {interface} inet6 -auto_linklocal ifdisabled"


def _ping_words(target: str, pattern: bytes) -> list[str]:
    return ["-c1", "-p", pattern.hex(), target]

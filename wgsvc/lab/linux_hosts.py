"""The laboratory's hosts on Linux: namespaces, veth cables, bridges in a host of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial

import wgsvc
from wgsvc.errors import BusyError, OSFailureError, UnavailableError, WgsvcError
from wgsvc.lab import linux_snapshot, network
from wgsvc.lab.compare import Snapshot
from wgsvc.lab.hosts import Completed, Progress, TableRoute
from wgsvc.lab.linux_capture import LinuxCapture, open_socket
from wgsvc.lab.linux_holder import CONFIG_DIR, Holder, finish_holder, fork_holder
from wgsvc.lab.linux_inhabitants import become_subreaper, end, inhabitants
from wgsvc.lab.linux_namespaces import enter_user_namespace, made_inside
from wgsvc.lab.record import Record

SWITCH = "switch"
"""A sixth host that only holds the bridges: an ordinary user can't make them anywhere else."""

_PACKAGES = {
    "ip": "iproute2",
    "ping": "iputils-ping",
    "wg": "wireguard-tools",
    "wireguard-go": "wireguard-go",
    "nsenter": "util-linux",
}
_TUN = "/dev/net/tun"
_END_TIMEOUT_S = 5.0


def missing() -> list[str]:
    """Return what this machine lacks, each with its cure."""
    lacking = [
        f"{program} (apt-get install {package})"
        for program, package in _PACKAGES.items()
        if shutil.which(program) is None
    ]
    if not os.path.exists(_TUN):
        lacking.append(f"{_TUN} (modprobe tun; in a container: --device {_TUN})")
    elif not os.access(_TUN, os.R_OK | os.W_OK):
        lacking.append(f"the right to open {_TUN} (as root: chmod 666 {_TUN}; or be root)")
    return lacking


def prepare(*, was_root: bool) -> None:
    """
    Get what making hosts takes; an ordinary user gets it in a user namespace.

    Raises: UnavailableError with all that is missing.
    """
    lacking = missing()
    if not was_root:
        try:
            enter_user_namespace()
        except OSFailureError as error:
            lacking.append(f"user namespaces ({error.message}; or run this as root)")
    if not lacking:
        try:
            _try_namespaces()
        except OSFailureError as error:
            lacking.append(f"network namespaces ({error.message}; a container needs CAP_SYS_ADMIN)")
    if lacking:
        raise UnavailableError(
            "the lab can't run here; what is missing, and how to get it: " + "; ".join(lacking)
        )
    become_subreaper()


def _try_namespaces() -> None:
    """Make one host and end it: containers and LSMs refuse at this point, each in its own way."""
    holder = finish_holder(fork_holder("probe", forwards=True))
    end([holder], within_s=_END_TIMEOUT_S)


class LinuxHosts:
    """The hosts of the laboratory on Linux. Call `prepare` first."""

    platform = "linux"

    def __init__(self, record: Record, *, was_root: bool) -> None:
        self._record = record
        self._was_root = was_root
        self._holders: dict[str, Holder] = {}
        package = os.path.dirname(os.path.dirname(os.path.abspath(wgsvc.__file__)))
        self._environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin",
            "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
            "LANG": "C.UTF-8",
            "HOME": "/root",
        }

    # --- making and removing

    def claim(self) -> None:
        """Make sure that this is the only lab. Raises: BusyError."""
        if inhabitants(map(_holder, self._record.take())):
            self._record.release()
            raise BusyError(
                "a lab is there already, kept or left by an interrupted run",
                cure="wgsvc lab --remove",
            )

    def create(self, progress: Progress) -> None:
        """Make the network. Raises: OSFailureError, WgsvcError with what a command said."""
        for host in (SWITCH, *network.HOSTS):
            progress(f"making {host}")
            starting = fork_holder(host, forwards=host in network.ROUTERS)
            self._holders[host] = starting.holder
            self._record.write(list(self._holders.values()))
            self._holders[host] = finish_holder(starting)
            self._record.write(list(self._holders.values()))
        progress("plugging in cables")
        self._ip_batch(SWITCH, self._cables())
        for host in network.HOSTS:
            self._ip_batch(host, _addressing(host))
        for host, text in network.CONFIGS.items():
            self._write_config(host, text)

    def _cables(self) -> list[str]:
        lines = []
        for bridge in network.BRIDGES:
            lines += [
                f"link add name {bridge} type bridge mcast_snooping 0",
                *_silently_up(bridge),
            ]
        for link in network.LINKS:
            port, there = f"{link.interface}.b", self._holders[link.host].pid
            lines += [
                f"link add name {port} type veth peer name {link.interface} netns {there}",
                f"link set dev {port} master {link.bridge}",
                *_silently_up(port),
            ]
        return lines

    def _write_config(self, host: str, text: str) -> None:
        path = f"{CONFIG_DIR}/{network.TUNNEL}.conf"
        script = f"umask 077 && cat > {path}"
        done = self.run(host, ["sh", "-c", script], text=text)
        if done.code != 0:
            raise WgsvcError(f"{host}: can't write {path}: {done.errors.strip()}")

    def remove(self) -> list[str]:
        """Remove all of a lab, also one that an interrupted run left."""
        holders = list(self._holders.values()) or [_holder(one) for one in self._record.take()]
        removed = [holder.host for holder in holders if inhabitants([holder])]
        end(holders, within_s=_END_TIMEOUT_S)
        self._holders.clear()
        self._record.forget()
        return removed

    def keep(self) -> None:
        """Leave the lab running when this process ends; the record is how it is found again."""
        self._record.release()
        self._holders.clear()

    def entering(self, host: str) -> str:
        """Return the command that opens a shell in a host."""
        user = "" if self._was_root else "-U --preserve-credentials "
        return f"nsenter -t {self._holders[host].pid} {user}-n -m -u"

    # --- running things in hosts

    def run(
        self, host: str, argv: list[str], *, timeout_s: float = 20.0, text: str = ""
    ) -> Completed:
        """Run a command in a host; code 124 if it had to be killed, 127 if it isn't there."""
        started = time.monotonic()
        try:
            done = subprocess.run(
                ["nsenter", "-t", str(self._holders[host].pid), "-n", "-m", "-u", "--", *argv],
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                env=self._environment,
                start_new_session=True,  # a Ctrl-C is for the lab alone, which then cleans up
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Completed(124, "", f"no end within {timeout_s:g} s", timeout_s)
        return Completed(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def service(self, host: str, *verb: str) -> Completed:
        """Run `wgsvc VERB ...` in a host, as its administrator does."""
        return self.run(host, [sys.executable, "-m", "wgsvc", *verb], timeout_s=60.0)

    def ping(self, host: str, target: str, *, pattern: bytes) -> Completed:
        """Ping once, with a pattern in the packet; 0 if the answer came."""
        return self.run(host, ["ping", "-n", "-W", "5", *_ping_words(target, pattern)])

    def ping_text(self, target: str, *, pattern: bytes) -> str:
        """Return that ping as a person types it."""
        return " ".join(["ping", *_ping_words(target, pattern)])

    def capture(self, host: str, interface: str) -> LinuxCapture:
        """Start to capture on an interface of a host."""
        holder = self._holders[host]
        return LinuxCapture(made_inside(holder.pid, partial(open_socket, interface)))

    # --- looking at hosts

    def addresses(self) -> dict[tuple[str, str], str]:
        """Return (host, interface) -> first IPv4 address, as the kernels have it now."""
        found = {}
        for host in network.HOSTS:
            for interface in json.loads(self._ip(host, ["-4", "-json", "address", "show"])):
                if interface.get("addr_info"):
                    found[host, interface["ifname"]] = interface["addr_info"][0]["local"]
        return found

    def routing_table(self, host: str) -> tuple[str, list[str], list[TableRoute]]:
        """Return the command that shows the IPv4 routes, its output, and the routes it lists."""
        lines = self._ip(host, ["-4", "route", "show"]).splitlines()
        routes = [
            TableRoute(one["dst"], one.get("gateway", ""), one.get("dev", ""))
            for one in json.loads(self._ip(host, ["-4", "-json", "route", "show"]))
        ]
        return "ip route", [line.rstrip() for line in lines], routes

    def inside(self, host: str) -> Snapshot:
        """Return what there is in a host."""
        return linux_snapshot.inside(self._holders[host], lambda argv: self._ip(host, argv))

    def outside(self) -> Snapshot:
        """Return what there is outside the hosts."""
        return linux_snapshot.outside(self._holders.values(), _ip_here)

    def _ip(self, host: str, argv: list[str]) -> str:
        return _output(self.run(host, ["ip", *argv]), f"{host}: ip")

    def _ip_batch(self, host: str, lines: list[str]) -> None:
        done = self.run(host, ["ip", "-batch", "-"], text="\n".join(lines) + "\n")
        _output(done, f"{host}: ip -batch")


def _holder(entry: dict[str, object]) -> Holder:
    entry = dict(entry)
    names = entry.pop("namespaces", ())
    return Holder(**entry, namespaces=tuple(names))  # type: ignore[arg-type]  # our own record


def _silently_up(interface: str) -> list[str]:
    """
    Bring an interface up that sends nothing of itself: no link-local address, no reports.

    Two commands: in a single one the kernel brings it up first.
    """
    return [f"link set dev {interface} addrgenmode none", f"link set dev {interface} up"]


def _addressing(host: str) -> list[str]:
    lines = ["link set dev lo up"]
    for link in network.links_of(host):
        lines += [
            f"address add {link.prefix} dev {link.interface}",
            *_silently_up(link.interface),
        ]
    gateway = network.DEFAULT_GATEWAYS.get(host)
    return [*lines, f"route add default via {gateway}"] if gateway else lines


def _ping_words(target: str, pattern: bytes) -> list[str]:
    return ["-c1", "-p", pattern.hex(), target]


def _ip_here(argv: list[str]) -> str:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, timeout=20, check=False)
    return _output(Completed(done.returncode, done.stdout, done.stderr, 0.0), "ip")


def _output(done: Completed, what: str) -> str:
    if done.code != 0:
        raise WgsvcError(f"{what}: {done.errors.strip() or f'exit status {done.code}'}")
    return done.output

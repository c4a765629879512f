"""
Machines to run tunnels on: VNET jails, and the host they are in.

A `Machine` runs the command as its administrator does and shows what the kernel and ps show.
What a test leaves behind is a failure, and is removed all the same.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from wgsvc.lab import freebsd_jails, network
from wgsvc.lab.freebsd_jails import Jail
from wgsvc.lab.hosts import Completed

T = TypeVar("T")

DEADLINE_S = 40.0  # for slow machines; a wait ends as soon as it can
TUNNEL = network.TUNNEL

HOST_FILE = """\
[Interface]
Address = 198.18.7.1/24, fd00:7::1/64
PrivateKey = aGi8VucdQG9h9sWHV2jZT5JmAXZpyadTPJlV4BS1124=

[Peer]
PublicKey = l/bRgqGEAzNtVq9JI3GyYnhFgCRXLNpakPxemH3mrA8=
AllowedIPs = 198.18.7.0/24, 198.19.0.0/16, fd00:7:1::/64
Endpoint = 127.0.0.1:9
"""


def sysctl(name: str) -> str:
    """Return a sysctl's value, "" if there is none."""
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def why_no_jails() -> str:
    """Say why there can be no VNET jails here, "" if there can."""
    if not sys.platform.startswith("freebsd"):
        return "needs FreeBSD"
    if os.geteuid() != 0:
        return "needs root"
    if sysctl("security.jail.jailed") != "0":
        return "makes jails: needs the host"
    if sysctl("kern.features.vimage") != "1":
        return "needs a kernel with VIMAGE"
    return ""


def eventually(true: Callable[[], T], *, what: str = "", within_s: float = DEADLINE_S) -> T:
    """Return the first true value; fail when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s} s: {what or true}")
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    state = freebsd_jails.run(["ps", "-o", "state=", "-p", str(pid)]).output.strip()
    return state == "" or state.startswith("Z")


def stop_process(pid: int, number: int) -> None:
    """Signal a process that status named; wait until it is gone, if that is what it is for."""
    os.kill(pid, number)
    if number == signal.SIGKILL:
        eventually(lambda: is_gone(pid), what=f"PID {pid} is gone")


class Machine:
    """
    A network stack, its processes, its files.

    `jail` None is the host itself, with a configuration and a run directory of the test's.
    """

    def __init__(self, jail: Jail | None, options: tuple[str, ...] = ()) -> None:
        self.jail = jail
        self.root = jail.root if jail else ""
        self.options = options
        self.environment = {**os.environ, "PYTHONPATH": freebsd_jails.package_folder()}
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"
        given = dict(zip(options[::2], options[1::2], strict=True))
        self.config_dir = given.get("--config-dir", freebsd_jails.CONFIG_DIR)
        self.run_dir = given.get("--run-dir", "/var/run/wgsvc")

    # --- commands

    def run(self, *argv: str, timeout_s: float = 50.0, text: str = "") -> Completed:
        """Run a command in this machine."""
        prefix = ["jexec", self.jail.name] if self.jail else []
        return freebsd_jails.run_with(
            self.environment, [*prefix, *argv], timeout_s=timeout_s, text=text
        )

    def said(self, *argv: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*argv)
        assert done.code == 0, (argv, done.output, done.errors)
        return done.output

    def wgsvc(self, *words: str) -> Completed:
        """Run `wgsvc ...`."""
        return self.run(sys.executable, "-m", "wgsvc", *self.options, *words)

    def ok(self, *words: str) -> Completed:
        """Run a `wgsvc ...` that must succeed."""
        done = self.wgsvc(*words)
        assert done.code == 0, (words, done.output, done.errors)
        return done

    def write(self, text: str, name: str = TUNNEL) -> str:
        """Write a configuration file; return its path as the machine sees it."""
        return self.put(f"{self.config_dir}/{name}.conf", text)

    def put(self, path: str, text: str, mode: int = 0o600) -> str:
        """Write a file; return its path as the machine sees it."""
        descriptor = os.open(self.root + path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        return path

    def read(self, path: str) -> str:
        """Return what is in a file, "" if it is not there."""
        if not os.path.exists(self.root + path):
            return ""
        with open(self.root + path) as file:
            return file.read()

    def edit(self, *changes: tuple[str, str], name: str = TUNNEL) -> str:
        """Put one text in another's place in a configuration file; return what is in it now."""
        path = f"{self.config_dir}/{name}.conf"
        text = self.read(path)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.put(path, text)
        return text

    def program(self, path: str) -> str:
        """Write a program that is this tree's wgsvc: what an installed one is elsewhere."""
        words = " ".join(shlex.quote(word) for word in (sys.executable, "-m", "wgsvc"))
        variables = f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={freebsd_jails.package_folder()}"
        return self.put(path, f'#!/bin/sh\nexec env {variables} {words} "$@"\n', 0o755)

    # --- what status says

    def state(self, name: str = TUNNEL) -> dict[str, Any]:
        """Return what `status --json` says of a tunnel."""
        found: dict[str, Any] = json.loads(self.wgsvc("status", "--json", name).output)
        tunnel: dict[str, Any] = found["tunnels"][0]
        return tunnel | {"supervisor": found["supervisor"]}

    def daemon(self, name: str = TUNNEL) -> int:
        """Return the PID of a tunnel's wireguard-go."""
        return self.child("wireguard-go", name)

    def child(self, role: str, name: str = TUNNEL) -> int:
        """Return the PID of a child of the supervisor."""
        (pid,) = [one["pid"] for one in self.state(name)["children"] if one["role"] == role]
        return int(pid)

    def supervisor(self) -> int:
        """Return the PID of the supervisor."""
        return int(self.state()["supervisor"]["pid"])

    # --- what the system shows

    def interfaces(self) -> list[str]:
        """Return the names of all interfaces."""
        return self.said("ifconfig", "-l").split()

    def ifconfig(self, name: str = TUNNEL) -> str:
        """Return what is shown of an interface, "" if there is none."""
        return self.run("ifconfig", name).output

    def routes(self, fib: int = 0) -> dict[str, tuple[str, str]]:
        """Return prefix -> (gateway, interface) of the IPv4 routes, as netstat(1) writes them."""
        lines = self.table("inet", fib)
        return {prefix: (gateway, interface) for prefix, gateway, _, interface in lines}

    def table(self, family: str, fib: int = 0) -> list[tuple[str, str, str, str]]:
        """Return (prefix, gateway, flags, interface) of the routes of a FIB."""
        found = []
        for line in self.said("netstat", "-rnW", "-f", family, "-F", str(fib)).splitlines():
            words = line.split()
            if len(words) > 3 and words[0] not in ("Routing", "Destination"):
                # What is between counts uses or numbers the next hop.
                interface = next(word for word in words[3:] if not word.isdigit())
                found.append((words[0], words[1], words[2], interface))
        return sorted(found)

    def processes(self) -> dict[int, str]:
        """Return PID -> command: in a jail all, on the host those below our supervisor."""
        if self.jail:
            return dict(freebsd_jails.processes(self.jail))
        lines = self.said("ps", "-axww", "-o", "pid=", "-o", "command=").splitlines()
        words = (line.split(None, 1) for line in lines)
        ours = (self.config_dir, f"-f {TUNNEL}", self.run_dir)
        return {int(w[0]): w[1] for w in words if len(w) > 1 and any(one in w[1] for one in ours)}

    def ports(self) -> list[str]:
        """Return the local addresses of the IPv4 UDP sockets that wireguard-go has."""
        lines = self.said("sockstat", "-4", "-P", "udp").splitlines()
        return [line.split()[5] for line in lines if "wireguard" in line]

    def shown(self) -> dict[str, Any]:
        """Return all that a tunnel could leave."""
        return {
            "interfaces": self.interfaces(),
            "routes": self.table("inet") + self.table("inet6"),
            "processes": self.processes(),
            "sockets": self.files("/var/run/wireguard"),
            "run": [name for name in self.files(self.run_dir) if name != "wgsvc.pid"],
        }

    def files(self, folder: str) -> list[str]:
        """Return the names in a folder, [] if there is none."""
        path = self.root + folder
        return sorted(os.listdir(path)) if os.path.isdir(path) else []

    def nothing_left(self, before: dict[str, Any]) -> None:
        """Wait until all is as it was; the supervisor ends after its last tunnel."""
        deadline = time.monotonic() + DEADLINE_S
        while (now := self.shown()) != before:
            if time.monotonic() > deadline:
                assert now == before
            time.sleep(0.1)


def log_of(machine: Machine) -> socket.socket:
    """Return a socket that hears what the processes of a jail send to syslog."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.setblocking(False)
    listener.bind(f"{machine.root}/var/run/log")
    return listener


# --- rc.d


def set_rc(jail: Machine, **settings: str) -> None:
    """Set variables of rc.conf as administrators do: sysrc(8), else an editor."""
    if os.path.exists("/usr/share/bsdconfig/common.subr"):
        jail.said("sysrc", *(f"{key}={value}" for key, value in settings.items()))
        return
    with open(f"{jail.root}/etc/rc.conf", "a") as file:
        file.writelines(f'{key}="{value}"\n' for key, value in settings.items())


def service(jail: Machine, *words: str) -> Completed:
    """Run `service wireguard ...`."""
    return jail.run("service", "wireguard", *words)

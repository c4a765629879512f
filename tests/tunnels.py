"""
Tunnels as people run them: files in /etc/wireguard, the command in a process of its own.

A `Host` is the network stack of the test (fixture `own_network`), with everything that the
command can see: its own /run, its own syslog. `seven_invariants` is what must hold
after every case, whatever was done in it; the fixture calls it, so no case can leave it out.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

T = TypeVar("T")

ROOT = str(Path(__file__).parents[1])
CONFIG_DIR = Path("/etc/wireguard")
RUN_DIR = Path("/run/wgsvc")
UAPI_DIR = Path("/run/wireguard")
DEADLINE_S = 15.0
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun")


class Result(NamedTuple):
    """How one command went."""

    code: int
    out: str
    err: str
    took_s: float

    @property
    def said(self) -> str:
        """Everything it said."""
        return self.out + self.err


class Process(NamedTuple):
    """A process of this host."""

    pid: int
    argv: tuple[str, ...]
    state: str
    parent: int


def eventually(true: Callable[[], T], *, within_s: float = DEADLINE_S, what: str = "") -> T:
    """Return the first true value; fail when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s} s: {what or true}")
        time.sleep(0.01)


def ip(*words: str) -> str:
    """Return what `ip WORDS` of iproute2 prints."""
    return subprocess.run(
        ["ip", *words], check=True, capture_output=True, text=True, timeout=20
    ).stdout


def private_key() -> str:
    """Return a new private key."""
    raw = bytearray(os.urandom(32))
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return base64.b64encode(raw).decode()


def public_key(private: str) -> str:
    """Return the public key of a private one."""
    return subprocess.run(
        ["wg", "pubkey"], input=private, check=True, capture_output=True, text=True
    ).stdout.strip()


def some_public_key() -> str:
    """Return a peer's key when nobody is going to answer to it."""
    return base64.b64encode(os.urandom(32)).decode()


def way_out(host: Host) -> None:
    """Give the host a way out through 198.51.100.1."""
    ip("link", "add", "out0", "type", "veth", "peer", "name", "out1")
    for name in ("out0", "out1"):
        ip("link", "set", name, "addrgenmode", "none", "up")
    ip("address", "add", "198.51.100.2/24", "dev", "out0")
    ip("route", "add", "default", "via", "198.51.100.1")
    host.before = host.shown()


class Host:
    """The network stack of a test, what is in it, and the command."""

    def __init__(self) -> None:
        self.names: list[str] = []  # interfaces that a test gave a file to
        self.startable: set[str] = set()  # those whose start must succeed when all is over
        self.secrets: list[str] = []
        self.said: list[str] = []
        self.foreign: list[subprocess.Popen[bytes]] = []
        self.options: list[str] = []  # of every command from now on
        self._namespace = os.stat("/proc/self/ns/mnt").st_ino
        self._syslog = _own_devices()
        self._log = ""
        self.before = self.shown()

    # --- files

    def write(self, name: str, text: str) -> Path:
        """Write a configuration file."""
        path = CONFIG_DIR / f"{name}.conf"
        path.write_text(text)
        path.chmod(0o600)
        if name not in self.names:
            self.names.append(name)
        self.startable.add(name)
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if key.strip() in ("PrivateKey", "PresharedKey"):
                self.secrets.append(value.strip())
        return path

    def tunnel(self, name: str = "wg0", *more: str, number: int = 1, peer: str = "") -> Path:
        """Write a plain tunnel; `more` are lines of [Interface], `peer` replaces [Peer]."""
        lines = [
            "[Interface]",
            f"PrivateKey = {private_key()}",
            f"Address = 10.{number}.0.1/24, fd00:{number}::1/64",
            *more,
        ]
        plain = (
            f"[Peer]\nPublicKey = {some_public_key()}\nPresharedKey = {private_key()}\n"
            f"AllowedIPs = 10.{number}.0.0/24, 192.168.{number}.0/24, fd00:{number}:1::/64\n"
            f"Endpoint = 127.0.0.1:{9000 + number}\n"
        )
        return self.write(name, "\n".join(lines) + "\n" + (peer or plain))

    # --- the command

    def command(self, *words: str) -> list[str]:
        """Return the argv of a command."""
        return [sys.executable, "-m", "wgsvc", *self.options, *words]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command."""
        return {**os.environ, "PYTHONPATH": ROOT, **(more or {})}

    def wgsvc(
        self, *words: str, env: Mapping[str, str] | None = None, timeout_s: float = 40.0
    ) -> Result:
        """Run a command to its end, its output to files: whoever keeps those open holds nobody."""
        began = time.monotonic()
        done = subprocess.run(
            self.command(*words),
            env=self.environment(env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        self.said += [done.stdout, done.stderr]
        return Result(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def sh(self, text: str, timeout_s: float = 40.0) -> Result:
        """Run a line of shell; a `wgsvc` in it is ours."""
        began = time.monotonic()
        wgsvc = " ".join(self.command())
        done = subprocess.run(
            ["bash", "-c", f'wgsvc() {{ {wgsvc} "$@"; }}\n{text}'],
            env=self.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        self.said += [done.stdout, done.stderr]
        return Result(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def ok(self, *words: str, env: Mapping[str, str] | None = None) -> Result:
        """Run a command that must succeed."""
        result = self.wgsvc(*words, env=env)
        assert result.code == 0, result.said
        return result

    def begin(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command and go on."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment(env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout_s: float = 60.0) -> Result:
        """Wait for a command that was started."""
        began = time.monotonic()
        out, err = process.communicate(timeout=timeout_s)
        self.said += [out, err]
        return Result(process.returncode, out, err, time.monotonic() - began)

    def status(self, *names: str) -> dict[str, Any]:
        """Return what `status --json` says, with its exit status as `exit`."""
        result = self.wgsvc("status", "--json", *names)
        return {**json.loads(result.out), "exit": result.code}

    def state(self, name: str = "wg0") -> dict[str, Any]:
        """Return what status says of one tunnel."""
        found: dict[str, Any] = self.status(name)["tunnels"][0]
        return found

    # --- what is there

    def processes(self) -> list[Process]:
        """Return the processes in this mount namespace but the test itself and its kin."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
                state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
                argv = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
                here = os.stat(f"/proc/{entry}/ns/mnt").st_ino == self._namespace
            except OSError:
                continue
            if here:
                words = tuple(argv.rstrip("\0").split("\0"))
                found.append(Process(int(entry), words, state, int(parent)))
        return found

    def daemons(self, name: str = "wg0") -> list[int]:
        """Return the PIDs of the wireguard-go processes of one interface."""
        return [
            process.pid
            for process in self.processes()
            if process.argv[-2:] == ("-f", name) and process.state != "Z"
        ]

    def daemon(self, name: str = "wg0") -> int:
        """Return the PID of the wireguard-go of one interface."""
        pids = self.daemons(name)
        assert len(pids) == 1, pids
        return pids[0]

    def supervisors(self) -> list[int]:
        """Return the PIDs of the supervisors: who holds the lock, by /proc/locks."""
        try:
            lock = (RUN_DIR / "wgsvc.pid").stat()
        except FileNotFoundError:
            return []
        device = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return [int(words[4]) for words in lines if words[5] == device]

    def supervisor(self) -> int:
        """Return the PID of the one supervisor."""
        (pid,) = self.supervisors()
        return pid

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Signal a process; after SIGKILL wait until it is gone."""
        os.kill(pid, number)
        if number == signal.SIGKILL:
            eventually(lambda: not alive(pid), what=f"{pid} is gone")

    def shown(self) -> dict[str, Any]:
        """Return interfaces, addresses, routes, rules: what the kernel shows."""
        links = json.loads(ip("-json", "addr"))
        return {
            "links": {
                link["ifname"]: (
                    link["ifindex"],
                    link["mtu"],
                    sorted(
                        f"{address['local']}/{address['prefixlen']}"
                        for address in link.get("addr_info", ())
                    ),
                )
                for link in links
            },
            "routes": sorted(
                f"-{version} {line}".replace(" linkdown", "").rstrip()  # the carrier, told late
                for version in (4, 6)
                for line in ip(f"-{version}", "route", "show", "table", "all").splitlines()
            ),
            "rules": ip("-4", "rule") + ip("-6", "rule"),
        }

    def links(self) -> set[str]:
        """Return the names of all interfaces."""
        return set(self.shown()["links"])

    def log(self) -> str:
        """Return all that went to syslog so far."""
        while True:
            try:
                self._log += self._syslog.recv(1 << 16).decode(errors="replace") + "\n"
            except BlockingIOError:
                return self._log

    def known(self, name: str) -> bool:
        """Return whether a name has a file or a tunnel: a stop of any other is refused."""
        return (CONFIG_DIR / f"{name}.conf").exists() or name in self.links()

    def run_dir(self) -> set[str]:
        """Return the names in the run directory."""
        return {entry.name for entry in RUN_DIR.iterdir()} if RUN_DIR.is_dir() else set()

    def untouched(self) -> None:
        """Fail unless the system is as before; a supervisor that was not needed may just end."""
        assert self.shown() == self.before
        eventually(lambda: self.strangers() == [], what="nothing is left running")

    def strangers(self) -> list[Process]:
        """Return the processes that have no business here when nothing runs."""
        known = {process.pid for process in self.foreign}
        return [process for process in self.processes() if process.pid not in known]

    def close(self) -> None:
        """Kill what is left."""
        for process in self.processes():
            try:
                os.kill(process.pid, signal.SIGCONT)
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for child in self.foreign:
            child.wait()
        self._syslog.close()


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def _own_devices() -> socket.socket:
    """Give this mount namespace a /dev of its own, with a /dev/log that the test reads."""
    kept = {name: os.stat(f"/dev/{name}") for name in DEVICES}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/dev"], check=True)
    for name, status in kept.items():
        path = Path("/dev", name)
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, status.st_mode, status.st_rdev)
        path.chmod(status.st_mode)
    Path("/dev/fd").symlink_to("/proc/self/fd")
    Path("/dev/stdin").symlink_to("/proc/self/fd/0")
    Path("/proc/sys/net/unix/max_dgram_qlen").write_text("100000")  # this namespace's
    syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    syslog.bind("/dev/log")
    return syslog


def seven_invariants(host: Host) -> None:
    """
    Check what must hold after every case.

    One wireguard-go at most an interface (1); nothing of ours that no file explains (2);
    nothing foreign touched (3); the next start and the next stop succeed (4); no key
    anywhere (5); no descriptor and no zombie left, a route monitor that runs (6); status tells
    the truth (7).
    """
    _one_daemon(host)  # 1
    _status_is_true(host)  # 7
    _no_secret(host)  # 5
    _no_zombie(host)  # 6
    for name in sorted(host.startable):  # 4
        host.ok("start", name)
    _one_daemon(host)
    _status_is_true(host)
    _monitor_runs(host)
    _no_secret(host)
    _no_descriptor_too_many(host)
    known = [name for name in host.names if host.known(name)]
    if known:
        host.ok("stop", *known)
    eventually(lambda: not host.strangers(), what=f"all have ended: {host.strangers()}")  # 6
    assert host.shown() == host.before  # 2, 3
    assert all(process.poll() is None for process in host.foreign)
    assert host.run_dir() <= {"wgsvc.pid"}
    assert not UAPI_DIR.exists() or not set(UAPI_DIR.iterdir())
    _no_secret(host)


def _one_daemon(host: Host) -> None:
    each = Counter(process.argv[-1] for process in host.processes() if process.argv[1:2] == ("-f",))
    assert all(count == 1 for count in each.values()), each


def _status_is_true(host: Host) -> None:
    if not host.names:
        return
    began = time.monotonic()
    said = host.status(*host.names)
    assert time.monotonic() - began < 5.0  # the answer alone takes ms; a loaded machine more
    links = host.links()
    for tunnel in said["tunnels"]:
        name, pids = tunnel["name"], host.daemons(tunnel["name"])
        told = [child["pid"] for child in tunnel["children"] if child["role"] == "wireguard-go"]
        if tunnel["state"] == "up":
            assert name in links, said
            assert told == pids, said
        if tunnel["state"] == "down":
            assert not pids, said
    states = {tunnel["state"] for tunnel in said["tunnels"]}
    degraded = any(tunnel.get("degraded") for tunnel in said["tunnels"])
    if states == {"up"}:
        assert said["exit"] == (1 if degraded else 0), said
    elif states <= {"up", "down"}:
        assert said["exit"] == 3, said
    else:
        assert said["exit"] == 1, said


def _monitor_runs(host: Host) -> None:
    """Check that a route monitor runs, or comes back, as long as a tunnel is up."""

    def runs() -> bool:
        tunnels = host.status(*host.names)["tunnels"]
        roles = [{child["role"] for child in tunnel["children"]} for tunnel in tunnels]
        up = [each for each, tunnel in zip(roles, tunnels, strict=True) if tunnel["state"] == "up"]
        return all("route-monitor" in each for each in up)

    if host.names and host.supervisors():
        eventually(runs, what="a route monitor runs")


def _no_secret(host: Host) -> None:
    forms = [
        form
        for secret in host.secrets
        for form in (secret, _hex_of(secret))
        if len(form) > 20  # not what a test of bad files calls a key
    ]
    places = {"output": "".join(host.said), "syslog": host.log()}
    for process in host.processes():
        for what in ("cmdline", "environ"):
            try:
                text = Path(f"/proc/{process.pid}/{what}").read_bytes().decode(errors="replace")
            except OSError:
                continue
            places[f"{what} of {process.argv}"] = text
    for path in RUN_DIR.glob("**/*") if RUN_DIR.is_dir() else ():
        if path.is_file():
            places[str(path)] = path.read_bytes().decode(errors="replace")
    for place, text in places.items():
        assert not any(form in text for form in forms), f"a key in {place}"


def _hex_of(secret: str) -> str:
    try:
        return base64.b64decode(secret, validate=True).hex()
    except ValueError:
        return secret


def _no_zombie(host: Host) -> None:
    for pid in host.supervisors():

        def zombies(parent: int = pid) -> list[Process]:
            return [p for p in host.processes() if p.parent == parent and p.state == "Z"]

        eventually(lambda: not zombies(), what="no zombie")


def _no_descriptor_too_many(host: Host) -> None:
    """Check that a supervisor holds one tun a tunnel, and no more."""
    running = {name for name in host.names if host.daemons(name)}
    for pid in host.supervisors():
        eventually(
            partial(_tuns_at_most, pid, len(running)), what="as many tun descriptors as tunnels"
        )


def _tuns_at_most(pid: int, count: int) -> bool:
    return list(descriptors(pid).values()).count("/dev/net/tun") <= count


def descriptors(pid: int) -> dict[int, str]:
    """Return what each descriptor of a process is."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue
    return found


def script(path: Path, text: str, mode: int = 0o755) -> str:
    """Write a program that stands in for wireguard-go; return its path."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test itself passed: of one that failed the rest says nothing."""
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(name="host")
def host_fixture(
    request: pytest.FixtureRequest,
    own_network: None,  # noqa: ARG001 - it is where we are
) -> Iterator[Host]:
    """Give the test a host; afterwards the seven invariants must hold."""
    assert shutil.which("wireguard-go"), "wireguard-go is not installed"
    host = Host()
    try:
        yield host
        if request.node.stash.get(PASSED, False):
            seven_invariants(host)
    finally:
        host.close()


__all__: Sequence[str] = ("Host", "host_fixture", "pytest_runtest_makereport")

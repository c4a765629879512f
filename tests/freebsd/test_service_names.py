"""Endpoints that are names, and routes that hooks bring or take, on a real FreeBSD kernel."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import TUNNEL, eventually, stop_process, why_no_jails
from wgsvc.lab import freebsd_jails, network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.freebsd.conftest import Builder, Pair
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]

GATEWAY = "172.31.2.11"
SERVER, MOVED, RESOLVER, ELSEWHERE = "203.0.113.7", "203.0.113.8", "203.0.113.53", "203.0.113.99"
NAME = "vpn.example.net"
NOBODY = "203.0.113.250"  # an endpoint that never answers, and so never roams
ANSWER = "/var/run/answer"
HALVES = "0.0.0.0/1, 128.0.0.0/1"
NAME_SERVER = """\
import socket, struct, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind((sys.argv[1], 53))
while True:
    asked, caller = listener.recvfrom(2000)
    end = asked.index(0, 12) + 5
    (kind,) = struct.unpack_from(">H", asked, end - 4)
    with open(sys.argv[2]) as file:
        here = file.read().strip()
    found = b""
    if kind == 1 and here:
        found = b"\\xc0\\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(here)
    code = 0x8180 if here else 0x8183
    head = asked[:2] + struct.pack(">HHHHH", code, 1, bool(found), 0, 0)
    listener.sendto(head + asked[12:end] + found, caller)
"""


@pytest.fixture(name="client")
def _client(builder: Builder) -> Iterator[Machine]:
    """Give a jail that reaches a server, its other address and a name server by a gateway."""
    if "epair" not in freebsd_jails.output(["ifconfig", "-C"]).split():
        pytest.skip("needs epair (kldload if_epair)")
    pair = builder.pair(writable=("/etc",))
    for address in (SERVER, RESOLVER, ELSEWHERE):
        pair.two.said("ifconfig", "lo0", "alias", f"{address}/32")
    for machine in pair:
        freebsd_jails.output(["cp", "-Rp", "/etc/.", f"{machine.root}/etc/"])
    pair.one.put("/etc/resolv.conf", f"nameserver {RESOLVER}\n", 0o644)
    pair.one.said("route", "add", "default", GATEWAY)
    pair.two.put(ANSWER, SERVER, 0o644)
    pair.two.edit(("192.168.222.1/32, 192.168.1.0/24", "192.168.222.1/32"))
    pair.two.ok("start", TUNNEL)
    words = ["jexec", pair.two.jail.name if pair.two.jail else "", sys.executable, "-c"]
    server = subprocess.Popen([*words, NAME_SERVER, RESOLVER, ANSWER])
    SERVERS[pair.one] = pair
    try:
        listed = ("sockstat", "-4", "-l", "-P", "udp")
        eventually(lambda: ":53" in pair.two.said(*listed), what="a name server")
        yield pair.one
    finally:
        del SERVERS[pair.one]
        server.kill()
        server.wait()
        pair.two.wgsvc("stop", "all")


SERVERS: dict[Machine, Pair] = {}
"""The pair of each client."""


def write(client: Machine, *more: str, allowed: str = "0.0.0.0/0", endpoint: str = NAME) -> None:
    """Write the client's file; `more` are lines of [Interface]."""
    text = network.CONFIGS["vpnr1"].replace("172.31.2.11", endpoint)
    text = text.replace("192.168.222.2/32, 192.168.2.0/24", allowed)
    client.write(text.replace("[Peer]", "\n".join([*more, "", "[Peer]"])))


def answers(client: Machine, address: str) -> None:
    SERVERS[client].two.put(ANSWER, address, 0o644)


def pings(client: Machine, address: str = ELSEWHERE) -> bool:
    return client.run("ping", "-c", "1", "-t", "5", address).code == 0


def servers(client: Machine) -> list[str]:
    lines = client.read("/etc/resolv.conf").splitlines()
    return [line for line in lines if line.startswith("nameserver")]


@pytest.mark.parametrize("dns", ["", "DNS = 192.168.222.2"])
def test_a_full_tunnel_comes_up_and_again_by_restart(client: Machine, dns: str) -> None:
    before = client.shown()
    write(client, dns, "PostUp = ping -c 1 -t 10 192.168.222.2")
    client.ok("start", TUNNEL)
    assert pings(client)
    client.ok("restart", TUNNEL)
    assert pings(client)
    (peer,) = client.state()["peers"]
    assert peer["endpoint"] in (f"{SERVER}:51820", f"{GATEWAY}:51820")  # whence it answers
    client.ok("stop", TUNNEL)
    client.nothing_left(before)


def test_what_would_swallow_the_resolver_waits(client: Machine) -> None:
    before = client.shown()
    answers(client, "")
    write(client, "DNS = 192.168.222.2", allowed="0.0.0.0/0, 10.66.0.0/16")
    started = client.ok("--set", "resolve_timeout_s=1", "start", TUNNEL)
    assert f"waiting for the address of {NAME}" in started.errors
    state = client.state()
    assert state["degraded"]
    assert state["waiting_for"] == [NAME]
    routes = client.routes()
    assert "0.0.0.0/1" not in routes
    assert routes["10.66.0.0/16"][1] == TUNNEL
    assert servers(client) == [f"nameserver {RESOLVER}"]
    answers(client, SERVER)
    eventually(lambda: not client.state().get("degraded"), what="it goes in by itself")
    assert servers(client) == ["nameserver 192.168.222.2"]
    eventually(lambda: pings(client), what="packets pass")
    client.ok("stop", TUNNEL)
    client.nothing_left(before)


@pytest.mark.parametrize("dns", ["", "DNS = 192.168.222.2"])
def test_a_name_that_moves_is_found_around_the_tunnel(client: Machine, dns: str) -> None:
    before = client.shown()
    write(client, dns)
    client.ok("--set", "endpoint_stale_s=3", "start", TUNNEL)
    assert pings(client)
    two = SERVERS[client].two
    two.said("ifconfig", "lo0", "alias", f"{MOVED}/32")
    two.said("ifconfig", "lo0", "-alias", SERVER)
    answers(client, MOVED)
    eventually(
        lambda: client.state()["peers"][0]["endpoint"] == f"{MOVED}:51820", what="the new address"
    )
    eventually(lambda: pings(client), what="packets pass again")
    eventually(lambda: RESOLVER not in client.routes(), what="the query's route is gone")
    assert client.routes()[MOVED][0] == GATEWAY
    client.ok("stop", TUNNEL)
    client.nothing_left(before)


def test_a_hook_brings_the_route_to_the_endpoint(client: Machine) -> None:
    """As wg-quick's users have it who route halves themselves: theirs is used and theirs stays."""
    before = client.shown()
    add, delete = (f"route -q {verb} -host {SERVER} {GATEWAY}" for verb in ("add", "delete"))
    write(client, f"PostUp = {add}", f"PostDown = {delete}", allowed=HALVES, endpoint=SERVER)
    client.ok("start", TUNNEL)
    assert client.routes()[SERVER][0] == GATEWAY
    assert pings(client)
    client.ok("stop", TUNNEL)
    client.nothing_left(before)


def test_an_administrator_s_route_is_not_taken_for_ours(client: Machine) -> None:
    write(client, allowed=HALVES, endpoint=NOBODY)
    client.ok("start", TUNNEL)
    assert client.routes()[NOBODY][0] == GATEWAY
    client.said("route", "delete", "-host", NOBODY)
    client.said("route", "add", "-host", NOBODY, "172.31.2.99")
    client.said("route", "add", "-host", "203.0.113.200", GATEWAY)  # has the pins looked at
    client.ok("reload", TUNNEL)
    client.ok("stop", TUNNEL)
    assert client.routes()[NOBODY][0] == "172.31.2.99"


def test_what_a_hook_takes_away_is_no_failure(client: Machine) -> None:
    before = client.shown()
    write(
        client, "PostUp = route -q delete -net 10.66.0.0/16",
        allowed="192.168.222.2/32, 10.66.0.0/16", endpoint=SERVER,
    )  # fmt: skip
    client.ok("start", TUNNEL)
    assert "10.66.0.0/16" not in client.routes()
    assert client.wgsvc("status", TUNNEL).code == 0
    assert "no change" in client.ok("reload", TUNNEL).errors
    stop_process(client.supervisor(), signal.SIGKILL)
    client.ok("start", TUNNEL)  # adopted
    assert client.wgsvc("status", TUNNEL).code == 0
    assert "no change" in client.ok("reload", TUNNEL).errors
    assert "10.66.0.0/16" not in client.routes()
    client.ok("stop", TUNNEL)
    client.nothing_left(before)


def test_the_endpoint_itself_among_the_allowed_ips(client: Machine) -> None:
    before = client.shown()
    write(client, allowed=f"192.168.222.2/32, {GATEWAY}/32", endpoint=GATEWAY)
    client.ok("start", TUNNEL)
    assert pings(client, "192.168.222.2")
    assert GATEWAY not in client.routes()
    assert client.wgsvc("status", TUNNEL).code == 0
    client.ok("stop", TUNNEL)
    client.nothing_left(before)

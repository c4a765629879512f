"""Routes of a tunnel on a real FreeBSD kernel: many, and the way out itself."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import (
    HOST_FILE,
    TUNNEL,
    eventually,
    stop_process,
    sysctl,
    why_no_jails,
)
from wgsvc.lab import network

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.freebsd.conftest import Builder, Pair
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]

FAR = "10.66.0.7"  # an endpoint behind the gateway


def file_with(allowed_ips: str, endpoint: str = "172.31.2.11", *more: str) -> str:
    """Return the article's file for vpnr1 with these AllowedIPs and this endpoint."""
    text = network.CONFIGS["vpnr1"].replace("172.31.2.11", endpoint)
    text = text.replace("192.168.222.2/32, 192.168.2.0/24", allowed_ips)
    return text.replace("[Peer]", "\n".join([*more, "", "[Peer]"]))


def test_a_thousand_routes(jail: Machine) -> None:
    before = jail.shown()
    prefixes = [f"10.{n // 250}.{n % 250}.0/24" for n in range(1000)]
    jail.write(file_with(", ".join(prefixes)))
    jail.ok("start", TUNNEL)
    routes = jail.routes()
    assert {routes.get(prefix, ("", ""))[1] for prefix in prefixes} == {TUNNEL}
    daemon = jail.daemon()
    stop_process(daemon, signal.SIGKILL)
    assert len([1 for route in jail.routes().values() if route[1] == TUNNEL]) >= 1000
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_both_ip_versions(jail: Machine) -> None:
    before = jail.shown()
    text = file_with("192.168.2.0/24, fd00:2::/64, fd00:2::7/128")
    jail.write(text.replace("192.168.222.1/32", "192.168.222.1/32, fd00:222::1/128"))
    jail.ok("start", TUNNEL)
    shown = jail.said("netstat", "-rnW", "-f", "inet6")
    assert any(line.startswith("fd00:2::/64") and TUNNEL in line for line in shown.splitlines())
    assert any(line.startswith("fd00:2::7") and TUNNEL in line for line in shown.splitlines())
    assert "inet6 fd00:222::1 prefixlen 128" in jail.ifconfig()
    assert "tentative" not in jail.ifconfig()
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_everything_through_the_tunnel_but_the_tunnel_itself(pair: Pair) -> None:
    """0.0.0.0/0 is two halves and a pinned endpoint; the pin follows the default route."""
    one, two = pair
    two.said("ifconfig", "lo0", "alias", "203.0.113.5/32")
    two.write(network.CONFIGS["vpnr2"])
    one.said("route", "add", "default", "172.31.2.11")
    before = one.shown()
    one.write(file_with("0.0.0.0/0"))
    for machine in pair:
        machine.ok("start", TUNNEL)
    routes = one.routes()
    assert routes["0.0.0.0/1"][1] == TUNNEL
    assert routes["128.0.0.0/1"][1] == TUNNEL
    assert routes["default"][0] == "172.31.2.11"
    done = one.run("ping", "-c", "1", "-t", "10", "192.168.222.2")
    assert done.code == 0, done.output
    assert one.run("ping", "-c", "1", "-t", "10", "203.0.113.5").code == 0
    (peer,) = two.state()["peers"]
    assert peer["rx_bytes"] > 0
    for machine in pair:
        machine.ok("stop", TUNNEL)
    one.nothing_left(before)


def test_the_pin_follows_the_default_route(pair: Pair) -> None:
    one = pair.one
    one.said("route", "add", "default", "172.31.2.11")
    before = one.shown()
    one.write(file_with("0.0.0.0/0", FAR))
    one.ok("start", TUNNEL)
    assert one.routes()[FAR][0] == "172.31.2.11"
    one.said("route", "change", "default", "172.31.3.3")
    eventually(lambda: one.routes().get(FAR, ("",))[0] == "172.31.3.3", what="the pin follows")
    one.said("route", "delete", "default")
    one.said("route", "add", "default", "172.31.2.11")
    eventually(lambda: one.routes().get(FAR, ("",))[0] == "172.31.2.11", what="and back")
    one.ok("stop", TUNNEL)
    assert FAR not in one.routes()
    one.nothing_left(before)


@pytest.mark.skipif(sysctl("net.fibs") in ("", "1"), reason="needs net.fibs of 2 or more")
def test_routes_in_another_fib_of_the_host(here: Callable[[], Machine]) -> None:
    host = here()
    name = f"wgt{os.getpid()}"
    host.write(HOST_FILE.replace("[Peer]", "Table = 1\n\n[Peer]"), name)
    before, second = host.shown(), host.said("netstat", "-rnW", "-F", "1")
    host.ok("start", name)
    assert host.routes(fib=1)["198.19.0.0/16"][1] == name
    assert "198.19.0.0/16" not in host.routes()
    host.ok("stop", name)
    host.nothing_left(before)
    assert host.said("netstat", "-rnW", "-F", "1") == second


def test_no_routes_of_ours(builder: Builder) -> None:
    jail = builder.jail("one")
    jail.write(file_with("192.168.2.0/24", "172.31.2.11", "Table = off"))
    jail.ok("start", TUNNEL)
    assert "192.168.2.0/24" not in jail.routes()
    jail.ok("stop", TUNNEL)

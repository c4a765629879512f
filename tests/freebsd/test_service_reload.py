"""`wgsvc reload` and `plan` of running tunnels, drift, `save` on a real FreeBSD kernel."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.freebsd.machines import (
    HOST_FILE,
    TUNNEL,
    eventually,
    service,
    set_rc,
    stop_process,
    sysctl,
    why_no_jails,
)
from wgsvc.lab import network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.freebsd.conftest import Pair
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]

FILE = network.CONFIGS["vpnr1"]
ALICE = "l/bRgqGEAzNtVq9JI3GyYnhFgCRXLNpakPxemH3mrA8="  # the article's peer
BOB = "4y4lBYyomcJ3Fu+jQKCIXuIWCJfLzIjGdPrVtbYFGHg="
PSK = "0pRsl0d0ECMuTPH9Nyn3DfJxmrxCFLtBQRLLHbqSwWM="
BOBS = f"\n# bob\n[Peer]\nPublicKey = {BOB}\nPresharedKey = {PSK}\nAllowedIPs = 10.7.0.0/16\n"
HEARD = "/tmp/heard"  # noqa: S108 - a jail's own
MARKS = ("198.51.100.1", "198.51.100.2")


def name_of(machine: Machine) -> str:
    assert machine.jail is not None
    return machine.jail.name


@contextmanager
def routes_heard(jail: Machine) -> Iterator[list[str]]:
    """Give what `route -n monitor` says of the time in between, but for questions."""
    with open(f"{jail.root}{HEARD}", "w") as file:
        monitor = subprocess.Popen(["jexec", name_of(jail), "route", "-n", "monitor"], stdout=file)
    heard: list[str] = []
    try:
        eventually(lambda: mark(jail, MARKS[0]) and MARKS[0] in jail.read(HEARD))
        yield heard
        mark(jail, MARKS[1])
        eventually(lambda: MARKS[1] in jail.read(HEARD))
    finally:
        monitor.kill()
        monitor.wait()
    messages = jail.read(HEARD).split("got message of size ")
    first = max(n for n, message in enumerate(messages) if MARKS[0] in message)
    last = min(n for n, message in enumerate(messages) if MARKS[1] in message)
    heard += [message for message in messages[first + 1 : last] if "RTM_GET" not in message]


def mark(jail: Machine, address: str) -> bool:
    """Make the routing sockets say something that can be recognised."""
    jail.said("route", "-n", "add", "-host", address, "127.0.0.1")
    jail.said("route", "-n", "delete", "-host", address)
    return True


def allowed(jail: Machine, key: str) -> set[str]:
    """Return the AllowedIPs that wg(8) shows of a peer."""
    lines = jail.said("wg", "show", TUNNEL, "allowed-ips").splitlines()
    (found,) = [line.partition("\t")[2] for line in lines if line.startswith(key)]
    return set(found.split())


def as_it_runs(jail: Machine) -> tuple[dict[str, Any], str, str]:
    """Return what the kernel and WireGuard have of the tunnel."""
    return jail.shown(), jail.ifconfig(), jail.said("wg", "showconf", TUNNEL)


def interface(jail: Machine) -> list[str]:
    """Return what ifconfig(8) shows; the first IPv6 address ends IFDISABLED for good."""
    return [line for line in jail.ifconfig().splitlines() if "nd6 options" not in line]


def told(jail: Machine) -> str:
    """Return what `status` says of a tunnel that is not as it was applied."""
    done = jail.wgsvc("status", TUNNEL)
    assert done.code == 1, done.output
    assert "degraded" in done.output
    assert jail.state()["drift"] is True
    return done.output


# --- reload


def test_nothing_changed_says_so_and_nobody_hears_of_it(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    before = as_it_runs(jail)
    with routes_heard(jail) as heard:
        said = jail.ok("reload", TUNNEL)
        jail.edit(("[Peer]", "# a comment more\n[Peer]"))
        again = jail.ok("reload", TUNNEL)
    for done in (said, again):
        assert "no change" in done.output + done.errors
    assert heard == []
    assert as_it_runs(jail) == before
    jail.ok("stop", TUNNEL)


def test_a_peer_and_an_allowed_ip_come_and_go(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon, first = jail.daemon(), as_it_runs(jail)
    jail.edit(("192.168.2.0/24\n", "192.168.2.0/24, 172.16.0.0/12, fd00:2::/64\n"))
    jail.write(jail.read(f"{jail.config_dir}/{TUNNEL}.conf") + BOBS)

    done = jail.ok("reload", TUNNEL)

    assert "+ route -q -n add -inet -net 172.16.0.0/12 -interface wg0" in done.errors
    assert PSK not in done.output + done.errors
    assert allowed(jail, ALICE) == {
        "192.168.222.2/32", "192.168.2.0/24", "172.16.0.0/12", "fd00:2::/64"
    }  # fmt: skip
    assert allowed(jail, BOB) == {"10.7.0.0/16"}
    assert PSK in jail.said("wg", "show", TUNNEL, "preshared-keys")
    routes = jail.routes()
    assert {routes[prefix][1] for prefix in ("172.16.0.0/12", "10.7.0.0/16")} == {TUNNEL}
    assert ("fd00:2::/64", TUNNEL) in [(line[0], line[3]) for line in jail.table("inet6")]
    assert jail.daemon() == daemon
    assert "no change" in jail.ok("reload", TUNNEL).errors
    stop_process(daemon, signal.SIGKILL)
    eventually(lambda: jail.state()["state"] == "up" and jail.daemon() != daemon, what="is back")
    assert allowed(jail, BOB) == {"10.7.0.0/16"}
    assert jail.state()["drift"] is False

    jail.write(FILE)
    jail.ok("reload", TUNNEL)

    assert jail.table("inet") == first[0]["routes"][: len(jail.table("inet"))]
    assert as_it_runs(jail)[2] == first[2]
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_an_allowed_ip_moves_and_its_route_stays(jail: Machine) -> None:
    jail.write(FILE + BOBS)
    jail.ok("start", TUNNEL)
    jail.edit((", 192.168.2.0/24", ""), ("10.7.0.0/16", "10.7.0.0/16, 192.168.2.0/24"))
    with routes_heard(jail) as heard:
        jail.ok("reload", TUNNEL)
    assert heard == []
    assert allowed(jail, ALICE) == {"192.168.222.2/32"}
    assert allowed(jail, BOB) == {"10.7.0.0/16", "192.168.2.0/24"}
    assert jail.routes()["192.168.2.0/24"][1] == TUNNEL
    jail.ok("stop", TUNNEL)


def test_addresses_mtu_and_port(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon, ifindex = jail.daemon(), jail.state()["ifindex"]
    jail.edit(
        ("192.168.222.1/32", "192.168.222.1/32, 10.1.1.1/24, fd00:7::1/64"),
        ("[Peer]", "MTU = 1300\n\n[Peer]"),
    )
    jail.ok("reload", TUNNEL)
    shown = jail.ifconfig()
    assert "inet 10.1.1.1 netmask 0xffffff00" in shown
    assert "inet6 fd00:7::1 prefixlen 64" in shown
    assert "mtu 1300" in shown
    assert "tentative" not in shown
    assert jail.routes()["10.1.1.0/24"][1] == TUNNEL
    assert jail.ports() == ["*:51820"]
    jail.edit(
        ("192.168.222.1/32, 10.1.1.1/24, fd00:7::1/64", "10.1.1.1/24"), ("51820\n\n", "51821\n\n")
    )
    jail.ok("reload", TUNNEL)
    shown = jail.ifconfig()
    assert "192.168.222.1" not in shown
    assert "fd00:7::1" not in shown
    assert jail.routes()["10.1.1.0/24"][1] == TUNNEL
    assert jail.routes()["192.168.2.0/24"][1] == TUNNEL
    assert jail.ports() == ["*:51821"]
    assert (jail.daemon(), jail.state()["ifindex"]) == (daemon, ifindex)
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_a_file_with_errors_leaves_everything_as_it_is(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    before = as_it_runs(jail)
    jail.edit(("192.168.2.0/24", "192.168.2.0/44"), ("[Peer]", "MTU = 1300\n[Peer]"))
    done = jail.wgsvc("reload", TUNNEL)
    assert done.code == 78
    assert "wg0.conf:" in done.errors
    assert as_it_runs(jail) == before
    jail.ok("stop", TUNNEL)


def test_what_takes_a_restart_says_so(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    before = as_it_runs(jail)
    jail.edit(("[Peer]", "Table = off\nMTU = 1300\n[Peer]"))
    done = jail.wgsvc("reload", TUNNEL)
    assert done.code == 75
    assert "wgsvc restart wg0" in done.errors
    assert as_it_runs(jail) == before
    jail.ok("stop", TUNNEL)


def test_the_way_out_itself_comes_and_goes(pair: Pair) -> None:
    """0.0.0.0/0 by a reload: two halves and a pinned endpoint, under a running session."""
    one, two = pair
    two.said("ifconfig", "lo0", "alias", "203.0.113.5/32")
    one.said("route", "add", "default", "172.31.2.11")
    before = one.shown()
    for machine in pair:
        machine.ok("start", TUNNEL)
    one.edit(("192.168.2.0/24", "192.168.2.0/24, 0.0.0.0/0"))
    one.ok("reload", TUNNEL)
    routes = one.routes()
    assert {routes["0.0.0.0/1"][1], routes["128.0.0.0/1"][1]} == {TUNNEL}
    assert one.run("ping", "-c", "1", "-t", "10", "203.0.113.5").code == 0
    (peer,) = two.state()["peers"]
    assert peer["rx_bytes"] > 0
    one.edit((", 0.0.0.0/0", ""))
    one.ok("reload", TUNNEL)
    assert not {"0.0.0.0/1", "128.0.0.0/1"} & set(one.routes())
    for machine in pair:
        machine.ok("stop", TUNNEL)
    one.nothing_left(before)


def test_a_session_outlives_reloads(pair: Pair) -> None:
    for machine in pair:
        machine.ok("start", TUNNEL)
    one = pair.one
    assert one.run("ping", "-c", "1", "-t", "15", "192.168.222.2").code == 0
    ping = subprocess.Popen(
        ["jexec", name_of(one), "ping", "-i", "0.05", "192.168.222.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for old, new in (
            ("192.168.2.0/24", "192.168.2.0/24, 10.7.0.0/16"),
            ("192.168.222.1/32", "192.168.222.1/32, 10.1.1.1/24"),
            ("[Peer]", "MTU = 1300\n\n[Peer]"),
            ("10.7.0.0/16", "10.8.0.0/16"),
            ("[Peer]", f"[Peer]\nPublicKey = {BOB}\nPresharedKey = {PSK}\n\n[Peer]"),
        ):
            one.edit((old, new))
            one.ok("reload", TUNNEL)
    finally:
        ping.send_signal(signal.SIGINT)
        counted = ping.communicate(timeout=20)[0].splitlines()[-2]
    sent, received = (int(words.split()[0]) for words in counted.split(", ")[:2])
    assert sent > 20, counted
    assert sent == received, counted
    for machine in pair:
        machine.ok("stop", TUNNEL)


@pytest.mark.skipif(sysctl("net.fibs") in ("", "1"), reason="needs net.fibs of 2 or more")
def test_routes_in_another_fib(jail: Machine) -> None:
    jail.said("sysctl", "net.fibs=2")
    jail.edit(("[Peer]", "Table = 1\n\n[Peer]"))
    jail.ok("start", TUNNEL)
    jail.edit(("192.168.2.0/24", "192.168.3.0/24"))
    jail.ok("reload", TUNNEL)
    assert jail.routes(fib=1)["192.168.3.0/24"][1] == TUNNEL
    assert "192.168.2.0/24" not in jail.routes(fib=1)
    assert "192.168.3.0/24" not in jail.routes()
    jail.said("setfib", "1", "route", "-n", "delete", "-net", "192.168.3.0/24")
    assert "route to 192.168.3.0/24 is missing" in told(jail)
    jail.ok("reload", TUNNEL)
    assert jail.routes(fib=1)["192.168.3.0/24"][1] == TUNNEL
    jail.ok("stop", TUNNEL)


def test_a_supervisor_that_was_killed_reloads_again(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon = jail.daemon()
    stop_process(jail.supervisor(), signal.SIGKILL)
    jail.edit(("192.168.2.0/24", "192.168.2.0/24, 10.7.0.0/16"))
    jail.ok("start", TUNNEL)  # takes it over
    jail.ok("reload", TUNNEL)
    assert jail.daemon() == daemon
    assert jail.routes()["10.7.0.0/16"][1] == TUNNEL
    assert "no change" in jail.ok("reload", TUNNEL).errors
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


# --- service(8)


def test_service_reload_of_one_and_of_what_is_listed(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES", wireguard_interfaces=f"{TUNNEL} wg1")
    assert service(site, "start").code == 0
    daemons = [site.daemon(), site.daemon("wg1")]
    site.edit(("192.168.2.0/24", "192.168.3.0/24"))
    site.edit(("198.19.0.0/16", "198.19.0.0/17"), name="wg1")
    done = service(site, "reload", "wg1")
    assert done.code == 0, done.errors
    assert "198.19.0.0/17" in site.routes()
    assert "192.168.2.0/24" in site.routes()
    done = service(site, "reload")
    assert done.code == 0, done.errors
    assert "192.168.3.0/24" in site.routes()
    assert "no change" in done.errors  # of wg1
    site.edit(("198.19.0.0/17", "198.19.0.0/44"), name="wg1")
    site.edit(("192.168.3.0/24", "192.168.4.0/24"))
    done = service(site, "reload", "wg1")
    assert done.code != 0
    assert "wg1.conf:7:" in done.errors
    assert [site.daemon(), site.daemon("wg1")] == daemons
    assert service(site, "stop").code == 0


def test_service_reload_of_all_starts_the_new_and_stops_the_gone(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES", wireguard_interfaces="all")
    before = site.shown()
    os.unlink(f"{site.root}{site.config_dir}/wg1.conf")
    assert service(site, "start").code == 0
    kept = site.daemon()
    site.write(HOST_FILE, "wg2")
    done = service(site, "reload")
    assert done.code == 0, done.errors
    assert site.state("wg2")["state"] == "up"
    os.unlink(f"{site.root}{site.config_dir}/wg2.conf")
    done = service(site, "reload")
    assert done.code == 0, done.errors
    assert site.ifconfig("wg2") == ""
    assert site.daemon() == kept
    assert service(site, "stop").code == 0
    site.nothing_left(before)


# --- plan


def test_plan_of_a_running_tunnel_shows_what_reload_does(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    assert "no change" in jail.ok("plan", TUNNEL).output
    before = as_it_runs(jail)
    jail.edit(
        ("192.168.222.1/32", "10.1.1.1/24"),
        ("192.168.2.0/24", "fd00:2::/64"),
        ("[Peer]", "MTU = 1300\n\n[Peer]"),
        ("Endpoint", f"PresharedKey = {PSK}\nEndpoint"),
    )

    lines = jail.ok("plan", TUNNEL).output.splitlines()

    assert {
        "+ ifconfig wg0 inet 10.1.1.1/24 alias",
        "- ifconfig wg0 inet 192.168.222.1 -alias",
        "+ ifconfig wg0 mtu 1300",
        "+ route -q -n add -inet6 -net fd00:2::/64 -interface wg0",
        "- route -q -n delete -inet -net 192.168.2.0/24 -interface wg0",
    } <= set(lines)
    assert any("preshared-key (changed)" in line and ALICE in line for line in lines)
    assert PSK not in "".join(lines)
    assert as_it_runs(jail) == before
    done = jail.ok("reload", TUNNEL)
    assert {line for line in lines if line[0] in "+-"} <= {
        line.removeprefix("[#] ") for line in done.errors.splitlines()
    }
    jail.ok("stop", TUNNEL)


# --- drift


@pytest.mark.parametrize(
    ("by_hand", "words"),
    [
        ("route -n delete -net 192.168.2.0/24", "the route to 192.168.2.0/24 is missing"),
        ("ifconfig wg0 inet 192.168.222.1 -alias", "address 192.168.222.1/32 is missing"),
        ("ifconfig wg0 inet6 fd00:9::1/64 alias", "address fd00:9::1/64 was added"),
        ("ifconfig wg0 mtu 1280", "the MTU is not 1420"),
        (f"wg set wg0 peer {ALICE} remove", f"peer {ALICE[:12]} is missing"),
        (f"wg set wg0 peer {BOB} allowed-ips 10.9.0.0/16", f"peer {BOB[:12]} was added"),
        (f"wg set wg0 peer {ALICE} allowed-ips 10.9.9.9/32", "has AllowedIPs of its own"),
        ("wg set wg0 listen-port 51999", "the port is not 51820"),
    ],
)
def test_drift_is_told_and_reload_puts_it_right(jail: Machine, by_hand: str, words: str) -> None:
    jail.ok("start", TUNNEL)
    assert jail.state()["drift"] is False
    first, routes = interface(jail), jail.table("inet")
    configured = sorted(jail.said("wg", "showconf", TUNNEL).split())
    jail.said(*by_hand.split())
    assert words in told(jail)
    jail.ok("reload", TUNNEL)
    jail.ok("status", TUNNEL)
    assert jail.state()["drift"] is False
    assert interface(jail) == first
    assert jail.table("inet") == routes
    assert sorted(jail.said("wg", "showconf", TUNNEL).split()) == configured
    assert "no change" in jail.ok("reload", TUNNEL).errors
    jail.ok("stop", TUNNEL)


# --- save


def test_save_writes_what_was_changed_by_hand(jail: Machine) -> None:
    text = "# the office\n" + FILE.replace("51820\n\n", "51820\nPostUp = true # %i is up\n\n", 1)
    path = jail.write(text + BOBS)
    jail.ok("start", TUNNEL)
    assert "no change" in jail.ok("save", TUNNEL).errors
    assert jail.read(path) == text + BOBS
    jail.said("wg", "set", TUNNEL, "peer", ALICE, "allowed-ips", "192.168.2.0/24,fd00:2::/64")
    jail.said("wg", "set", TUNNEL, "peer", BOB, "persistent-keepalive", "17")
    jail.said("ifconfig", TUNNEL, "inet", "10.1.1.1/24", "alias")

    jail.ok("save", TUNNEL)

    now = jail.read(path)
    assert now.startswith("# the office\n[Interface]\nAddress = 192.168.222.1/32, 10.1.1.1/24\n")
    assert "PostUp = true # %i is up\n" in now
    assert "AllowedIPs = 192.168.2.0/24, fd00:2::/64\n" in now
    assert "# bob\n[Peer]\n" in now
    assert "PersistentKeepalive = 17\n" in now
    assert jail.read(f"{path}.previous") == text + BOBS
    for name in (path, f"{path}.previous"):
        assert os.stat(jail.root + name).st_mode & 0o777 == 0o600
    assert "route to fd00:2::/64 is missing" in told(jail)  # wg set makes none
    jail.ok("reload", TUNNEL)
    assert jail.state()["drift"] is False
    jail.ok("stop", TUNNEL)
    jail.ok("start", TUNNEL)
    assert "inet 10.1.1.1 netmask 0xffffff00" in jail.ifconfig()
    assert allowed(jail, ALICE) == {"192.168.2.0/24", "fd00:2::/64"}
    jail.ok("stop", TUNNEL)


def test_saveconfig_saves_at_stop(jail: Machine) -> None:
    before = jail.shown()
    path = jail.write(FILE.replace("[Peer]", "SaveConfig = true\n\n[Peer]"))
    untouched = jail.read(path)
    jail.ok("start", TUNNEL)
    jail.ok("stop", TUNNEL)
    assert jail.read(path) == untouched
    jail.ok("start", TUNNEL)
    jail.said("wg", "set", TUNNEL, "peer", BOB, "allowed-ips", "10.7.0.0/16")
    jail.ok("stop", TUNNEL)
    assert f"\n[Peer]\nPublicKey = {BOB}\nAllowedIPs = 10.7.0.0/16\n" in jail.read(path)
    jail.nothing_left(before)
    jail.ok("start", TUNNEL)
    assert jail.routes()["10.7.0.0/16"][1] == TUNNEL
    jail.ok("stop", TUNNEL)

"""Where the traffic goes: tables, per-peer routes, marks, and IPv6 in every place."""

from __future__ import annotations

import pytest

from tests.tunnels import Host, eventually, ip, private_key, public_key, some_public_key
from tests.witnesses import far_host, replace, wait_for_ping, wg

pytestmark = pytest.mark.root

ALICE, BOB = some_public_key(), some_public_key()


def routes(*words: str) -> set[str]:
    """Return the prefixes routed into wg0 that the kernel did not make for an address."""
    return {
        line.split()[0]
        for version in ("-4", "-6")
        for line in ip(version, "route", "show", "dev", "wg0", *words).splitlines()
        if "proto kernel" not in line and "multicast" not in line
    }


def test_table_n_leaves_the_main_table_alone(host: Host) -> None:
    main = ip("route"), ip("-6", "route")
    host.write(
        "wg0",
        f"[Interface]\nPrivateKey = {private_key()}\nTable = 1234\nFwMark = 51820\n"
        f"[Peer]\nPublicKey = {ALICE}\nEndpoint = 192.0.2.1:1\n"
        "AllowedIPs = 0.0.0.0/0, ::/0, 10.0.0.0/8\n",
    )

    host.ok("start", "wg0")

    assert routes("table", "1234") == {"default", "10.0.0.0/8"}
    assert "default" in ip("-6", "route", "show", "table", "1234")
    assert ip("route") == main[0]
    assert wg("show", "wg0", "fwmark").strip() == "0xca6c"
    ip("route", "del", "10.0.0.0/8", "table", "1234")
    assert host.state()["drift"]
    host.ok("reload", "wg0")
    assert routes("table", "1234") == {"default", "10.0.0.0/8"}


def test_table_off_makes_no_route_and_its_absence_is_no_drift(host: Host) -> None:
    path = host.tunnel("wg0", "Table = off")

    host.ok("start", "wg0")

    assert routes() == set()
    assert not host.state()["drift"]
    assert "no change" in host.ok("reload", "wg0").said
    host.kill(host.supervisor())
    path.write_text(path.read_text().replace("[Peer]", "# a peer\n[Peer]"))
    host.ok("start", "wg0")
    assert not host.state()["drift"]
    assert "no change" in host.ok("reload", "wg0").said


def test_each_peer_may_say_its_routes_in_a_comment(host: Host) -> None:
    path = host.write(
        "wg0",
        f"[Interface]\nPrivateKey = {private_key()}\n"
        f"[Peer]\n# wgsvc: routes = 10.1.0.0/16, fd01::/32\nPublicKey = {ALICE}\n"
        "AllowedIPs = 0.0.0.0/0, ::/0\n"
        f"[Peer]\n# wgsvc: routes = off\nPublicKey = {BOB}\nAllowedIPs = 10.2.0.0/16\n",
    )

    host.ok("start", "wg0")

    assert routes() == {"10.1.0.0/16", "fd01::/32"}
    assert "0.0.0.0/0" in wg("show", "wg0", "allowed-ips")
    replace(
        path, ("10.1.0.0/16, fd01::/32", "10.1.0.0/16"), ("routes = off", "routes = 10.2.3.0/24")
    )
    host.ok("reload", "wg0")
    assert routes() == {"10.1.0.0/16", "10.2.3.0/24"}


def test_everything_through_the_tunnel_and_back(host: Host) -> None:
    """A /0 of both versions as halves, the endpoint pinned to its own way out."""
    host.options = ["--set", "full_tunnel=halves"]
    with far_host(host) as far:
        ip("route", "add", "default", "via", "192.0.2.2")
        ip("-6", "route", "add", "default", "via", "2001:db8::2")
        before = ip("route", "show", "default"), ip("-6", "route", "show", "default")
        private = private_key()
        path = host.write(
            "wg0",
            f"[Interface]\nPrivateKey = {private}\nAddress = 10.9.0.1/32, fd09::1/128\n"
            f"ListenPort = 51820\n[Peer]\nPublicKey = {far.public}\n"
            f"Endpoint = [2001:db8::2]:{far.port}\nAllowedIPs = 0.0.0.0/0, ::/0\n",
        )
        far.peer(public_key(private), "10.9.0.1/32,fd09::1/128")
        far.address("10.9.0.2/24", "fd09::2/64", "10.50.0.1/32", "fd50::1/128")

        host.ok("start", "wg0")

        assert routes() == {"0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"}
        for target in ("10.50.0.1", "fd50::1"):
            wait_for_ping(target)
        assert "dev near0" in ip("route", "get", "2001:db8::2")
        replace(path, ("0.0.0.0/0, ::/0", "10.50.0.0/16, fd50::/16"))
        host.ok("reload", "wg0")
        assert routes() == {"10.50.0.0/16", "fd50::/16"}
        replace(path, ("10.50.0.0/16, fd50::/16", "::/0"))
        host.ok("reload", "wg0")
        assert routes() == {"::/1", "8000::/1"}
        wait_for_ping("fd50::1")
        host.ok("stop", "wg0")
        assert (ip("route", "show", "default"), ip("-6", "route", "show", "default")) == before
        ip("route", "del", "default")
        ip("-6", "route", "del", "default")


def test_ipv6_alone(host: Host) -> None:
    private = private_key()
    with far_host(host) as far:
        path = host.write(
            "wg0",
            f"[Interface]\nPrivateKey = {private}\nAddress = fd09::1/128\nListenPort = 51820\n"
            f"[Peer]\nPublicKey = {far.public}\nEndpoint = [2001:db8::2]:{far.port}\n"
            "AllowedIPs = fd09::/64\nPersistentKeepalive = 1\n",
        )
        far.peer(public_key(private), "fd09::1/128,fd09::3/128")
        far.address("fd09::2/64")

        host.ok("start", "--wait", "handshake", "--timeout", "20", "wg0")

        assert host.state()["peers"][0]["last_handshake"]
        wait_for_ping("fd09::2")
        replace(path, ("fd09::1/128", "fd09::1/128, fd09::3/128"))
        host.ok("reload", "wg0")
        wait_for_ping("-I", "fd09::3", "fd09::2")


def test_waiting_for_a_handshake_that_never_comes_says_so(host: Host) -> None:
    host.tunnel()

    result = host.wgsvc("start", "--wait", "handshake", "--timeout", "0.5", "wg0")

    assert result.code == 75
    assert "no peer has shaken hands within 0.5 s" in result.err
    assert host.state()["state"] == "up"


def test_an_ipv6_address_removed_and_put_back(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    ip("-6", "addr", "del", "fd00:1::1/64", "dev", "wg0")
    assert "fd00:1::1/64 is missing" in host.state()["reason"]

    host.ok("reload", "wg0")

    eventually(lambda: not host.state()["drift"])
    assert "fd00:1::1/64" in host.shown()["links"]["wg0"][2]

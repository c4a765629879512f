"""`wgsvc reload`: only what differs goes to WireGuard and the kernel; and what drift is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tunnels import (
    CONFIG_DIR,
    Host,
    eventually,
    ip,
    private_key,
    public_key,
    some_public_key,
)
from tests.witnesses import (
    far_host,
    kernel_heard,
    replace,
    showconf,
    uapi_recorded,
    wait_for_ping,
    wg,
)

pytestmark = pytest.mark.root

ALICE, BOB = some_public_key(), some_public_key()
FRAMING = ("set=1", "public_key=", "update_only=true")


def written(host: Host, *more: str, private: str = "") -> Path:
    return host.write(
        "wg0",
        f"[Interface]\nPrivateKey = {private or private_key()}\nAddress = 10.1.0.1/24\nMTU = 1400\n"
        + "".join(f"{line}\n" for line in more)
        + f"\n# alice\n[Peer]\nPublicKey = {ALICE}\nPresharedKey = {private_key()}\n"
        "AllowedIPs = 192.168.1.0/24, 192.168.2.0/24, fd00:2::/64\nEndpoint = 127.0.0.1:9001\n"
        f"\n# bob\n[Peer]\nPublicKey = {BOB}\nAllowedIPs = 192.168.3.0/24\n",
    )


def lines_of(sets: list[str]) -> list[str]:
    """Return the lines that say something."""
    return [
        line
        for request in sets
        for line in request.strip().split("\n")
        if not line.startswith(FRAMING)
    ]


def allowed(key: str) -> set[str]:
    for line in wg("show", "wg0", "allowed-ips").splitlines():
        peer, _, prefixes = line.partition("\t")
        if peer == key:
            return set(prefixes.split())
    raise KeyError(key)


# --- what is sent


def test_an_unchanged_file_sends_nothing_at_all(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    eventually(lambda: host.state()["children"][1:], what="the route monitor runs")

    with kernel_heard() as heard, uapi_recorded() as sets:
        said = host.ok("reload", "wg0").said
        path.write_text(path.read_text() + "# a comment more\n")
        said += host.ok("reload", "wg0").said

    assert said.count("no change") == 2
    assert sets == []
    assert heard == []


def test_one_allowed_ip_among_ten_thousand_peers_is_one_line(host: Host) -> None:
    peers = "".join(
        f"[Peer]\nPublicKey = {some_public_key()}\n"
        f"AllowedIPs = 10.{64 + n // 65536}.{n // 256 % 256}.{n % 256}/32\n"
        for n in range(10_000)
    )
    path = host.tunnel(peer=peers)
    host.ok("start", "wg0")
    replace(path, ("10.64.19.136/32\n", "10.64.19.136/32, 172.16.0.0/24\n"))

    with kernel_heard() as heard, uapi_recorded() as sets:
        host.ok("reload", "wg0")

    assert lines_of(sets) == ["allowed_ip=172.16.0.0/24"]
    assert len(heard) == 1  # the route
    assert "172.16.0.0/24" in ip("route", "show", "dev", "wg0")
    host.startable.clear()


def test_the_file_of_ten_changes_makes_what_runs_equal(host: Host) -> None:
    path = written(host, "ListenPort = 51999")
    host.ok("start", "wg0")
    carol = some_public_key()
    replace(
        path,
        ("10.1.0.1/24", "10.1.1.1/24, fd00:7::1/64"),
        ("1400", "1380"),
        ("51999", "51998\nFwMark = 0x20"),
        ("192.168.1.0/24, ", "10.77.0.0/16, "),
        ("127.0.0.1:9001", "[::1]:9002\nPersistentKeepalive = 9"),
        (f"PublicKey = {BOB}\n", f"PublicKey = {carol}\n"),
    )

    host.ok("reload", "wg0")

    shown = host.shown()["links"]["wg0"]
    assert shown[1] == 1380
    assert {"10.1.1.1/24", "fd00:7::1/64"} <= set(shown[2])
    assert "10.1.0.1/24" not in shown[2]
    assert allowed(ALICE) == {"10.77.0.0/16", "192.168.2.0/24", "fd00:2::/64"}
    assert allowed(carol) == {"192.168.3.0/24"}
    assert BOB not in wg("show", "wg0", "peers")
    assert f"{ALICE}\t[::1]:9002" in wg("show", "wg0", "endpoints")
    assert wg("show", "wg0", "listen-port").strip() == "51998"
    assert wg("show", "wg0", "fwmark").strip() == "0x20"
    routes = ip("route", "show", "dev", "wg0")
    assert "10.77.0.0/16" in routes
    assert "192.168.1.0/24" not in routes
    assert "no change" in host.ok("reload", "wg0").said
    assert not host.state()["drift"]


def test_a_port_that_the_file_does_not_name_stays(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    port = wg("show", "wg0", "listen-port")
    replace(path, ("192.168.3.0/24", "192.168.4.0/24"))

    with uapi_recorded() as sets:
        host.ok("reload", "wg0")

    assert wg("show", "wg0", "listen-port") == port
    assert not any("listen_port" in request for request in sets)


def test_an_endpoint_that_roamed_survives(host: Host) -> None:
    """The file says where a peer was once; its packets say where it is."""
    private = private_key()
    with far_host(host) as far:
        path = host.write(
            "wg0",
            f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\nAddress = 10.9.0.1/32\n"
            f"[Peer]\nPublicKey = {far.public}\nEndpoint = 192.0.2.77:9\n"
            "AllowedIPs = 10.9.0.2/32\n",
        )
        host.ok("start", "wg0")
        far.peer(public_key(private), "10.9.0.1/32", "endpoint", "192.0.2.1:51820")
        far.address("10.9.0.2/24")
        far.run("ping", "-c", "1", "-W", "5", "10.9.0.1")
        assert f"{far.public}\t192.0.2.2:{far.port}" in wg("show", "wg0", "endpoints")
        assert not host.state()["drift"]
        replace(path, ("10.9.0.2/32", "10.9.0.2/32, 10.9.5.0/24"))

        host.ok("reload", "wg0")

        assert f"{far.public}\t192.0.2.2:{far.port}" in wg("show", "wg0", "endpoints")
        assert not host.state()["drift"]
        replace(path, ("192.0.2.77:9", "192.0.2.77:10"))
        host.ok("reload", "wg0")
        assert f"{far.public}\t192.0.2.77:10" in wg("show", "wg0", "endpoints")


def test_a_preshared_key_taken_out_is_cleared(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    text = path.read_text()
    start = text.index("PresharedKey")
    path.write_text(text[:start] + text[text.index("\n", start) + 1 :])

    result = host.ok("reload", "wg0")

    assert f"{ALICE}\t(none)" in wg("show", "wg0", "preshared-keys")
    assert "preshared-key off" in result.said


def test_another_private_key_says_that_sessions_are_renewed(host: Host) -> None:
    old, new = private_key(), private_key()
    path = written(host, private=old)
    host.ok("start", "wg0")
    replace(path, (old, new))
    host.secrets.append(new)

    result = host.ok("reload", "wg0")

    assert "sessions renewed" in result.said
    assert wg("show", "wg0", "public-key").strip() == public_key(new)


def test_our_own_key_as_a_peer_converges(host: Host) -> None:
    private = private_key()
    path = written(host, private=private)
    path.write_text(path.read_text() + f"[Peer]\nPublicKey = {public_key(private)}\n")
    host.ok("start", "wg0")

    assert "no change" in host.ok("reload", "wg0").said
    assert not host.state()["drift"]
    assert "no change" in host.ok("save", "wg0").said


def test_taking_one_allowed_ip_away_sends_that_peer_again_and_no_other(host: Host) -> None:
    """wireguard-go before May 2025 can't take single ones away."""
    path = written(host)
    host.ok("start", "wg0")
    replace(path, ("192.168.2.0/24, ", ""))

    with uapi_recorded() as sets:
        host.ok("reload", "wg0")

    assert allowed(ALICE) == {"192.168.1.0/24", "fd00:2::/64"}
    last = sets[-1].split()
    if "allowed_ip=-192.168.2.0/24" not in last:
        assert [line for line in last if not line.startswith("public_key")] == [
            "set=1", "update_only=true", "replace_allowed_ips=true",
            "allowed_ip=192.168.1.0/24", "allowed_ip=fd00:2::/64",
        ]  # fmt: skip
    assert sum(line.startswith("public_key") for line in last) == 1


def test_a_moved_allowed_ip_goes_over_in_one_line(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    replace(path, ("192.168.2.0/24, ", ""), ("192.168.3.0/24", "192.168.3.0/24, 192.168.2.0/24"))

    with kernel_heard() as heard, uapi_recorded() as sets:
        host.ok("reload", "wg0")

    assert lines_of(sets) == ["allowed_ip=192.168.2.0/24"]
    assert heard == []
    assert allowed(BOB) == {"192.168.2.0/24", "192.168.3.0/24"}


@pytest.mark.parametrize("address", ["10.1.0.1/32", "10.9.0.1/24", "10.1.0.2/24"])
def test_the_network_of_an_address_that_goes_is_still_routed(host: Host, address: str) -> None:
    """Where an AllowedIP is the address's network, the kernel's own route did for it."""
    path = host.write(
        "wg0",
        f"[Interface]\nPrivateKey = {private_key()}\nAddress = 10.1.0.1/24\n[Peer]\n"
        f"PublicKey = {some_public_key()}\nAllowedIPs = 10.1.0.0/24, 192.168.2.0/24\n",
    )
    host.ok("start", "wg0")
    replace(path, ("10.1.0.1/24", address))

    host.ok("reload", "wg0")

    routes = ip("route", "show", "dev", "wg0")
    assert "192.168.2.0/24" in routes
    assert "10.1.0.0/24" in routes
    assert host.state()["drift"] is False
    assert "no change" in host.ok("reload", "wg0").said


# --- what is refused


def test_a_file_with_errors_leaves_everything_as_it_is(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    good, before = path.read_text(), (host.shown(), showconf())
    path.write_text(good.replace("192.168.3.0/24", "192.168.3.0/33") + "Nonsense\n")

    with uapi_recorded() as sets:
        result = host.wgsvc("reload", "wg0")

    assert result.code == 78
    assert "wg0.conf:16:" in result.err
    assert sets == []
    assert (host.shown(), showconf()) == before
    path.write_text(good)


def test_another_table_says_that_it_takes_a_restart(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    before = host.shown()
    replace(path, ("MTU = 1400", "MTU = 1300\nTable = 1234"))

    result = host.wgsvc("reload", "wg0")

    assert result.code == 75
    assert "wgsvc restart wg0" in result.err
    assert host.shown() == before
    host.ok("restart", "wg0")
    assert "192.168.1.0/24" in ip("route", "show", "table", "1234")


def test_a_tunnel_that_does_not_run_is_not_started_by_a_reload(host: Host) -> None:
    written(host)
    host.tunnel("wg1", number=7)
    host.ok("start", "wg1")

    result = host.wgsvc("reload", "wg0")

    assert result.code == 75
    assert "wgsvc start wg0" in result.err


# --- several


def test_reload_all_starts_what_is_new_and_stops_what_is_gone(host: Host) -> None:
    for number in (1, 2, 3):
        host.tunnel(f"wg{number}", number=number)
    gone, kept = CONFIG_DIR / "wg1.conf", host.daemon
    (CONFIG_DIR / "wg3.conf").rename(CONFIG_DIR / "wg3.away")
    host.ok("start", "wg1", "wg2")
    pid = kept("wg2")
    gone.rename(CONFIG_DIR / "wg1.away")
    (CONFIG_DIR / "wg3.away").rename(CONFIG_DIR / "wg3.conf")

    host.ok("reload", "all")

    assert {"wg2", "wg3"} <= host.links()
    assert "wg1" not in host.links()
    assert host.daemon("wg2") == pid
    (CONFIG_DIR / "wg1.away").rename(gone)


def test_reload_without_a_name_is_all_that_run(host: Host) -> None:
    one = host.tunnel("wg1", number=1)
    two = host.tunnel("wg2", number=2)
    host.tunnel("wg3", number=3)
    host.ok("start", "wg1", "wg2")
    for path, number in ((one, 1), (two, 2)):
        replace(path, (f"192.168.{number}.0/24", f"192.168.{number}0.0/24"))

    host.ok("reload")

    assert "192.168.10.0/24" in ip("route")
    assert "192.168.20.0/24" in ip("route")
    assert "wg3" not in host.links()


# --- plan and drift


def test_plan_shows_what_reload_does_and_does_nothing(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    assert "no change" in host.ok("plan", "wg0").out
    before = host.shown(), showconf()
    replace(path, ("10.1.0.1/24", "10.1.1.1/24"), ("192.168.3.0/24", "10.77.0.0/16"))
    path.write_text(
        path.read_text().replace("PresharedKey = ", f"PresharedKey = {private_key()} # ")
    )
    host.secrets.append(path.read_text().split("PresharedKey = ")[1].split()[0])

    lines = host.ok("plan", "wg0").out.splitlines()

    assert "+ ip -4 address add 10.1.1.1/24 dev wg0" in lines
    assert "- ip -4 address delete 10.1.0.1/24 dev wg0" in lines
    assert "+ ip -4 route add 10.77.0.0/16 dev wg0" in lines
    assert "- ip -4 route del 192.168.3.0/24 dev wg0" in lines
    assert f"+ wg set wg0 peer {ALICE} preshared-key (changed)" in lines
    assert (host.shown(), showconf()) == before


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        (["ip", "route", "del", "192.168.1.0/24"], "route to 192.168.1.0/24 is missing"),
        (["ip", "addr", "del", "10.1.0.1/24", "dev", "wg0"], "address 10.1.0.1/24 is missing"),
        (["ip", "addr", "add", "10.5.0.1/32", "dev", "wg0"], "address 10.5.0.1/32 was added"),
        (["ip", "link", "set", "wg0", "mtu", "1300"], "the MTU is not 1400"),
        (["wg", "set", "wg0", "peer", BOB, "remove"], f"peer {BOB[:12]} is missing"),
        (["wg", "set", "wg0", "peer", "NEW"], "was added"),
        (["wg", "set", "wg0", "fwmark", "7"], "the mark is not off"),
        (
            ["wg", "set", "wg0", "peer", BOB, "allowed-ips", "10.9.9.9/32"],
            f"peer {BOB[:12]} has AllowedIPs of its own",
        ),
    ],
)
def test_drift_is_told_and_put_right(host: Host, by_hand: list[str], told: str) -> None:
    written(host)
    host.ok("start", "wg0")
    plain = host.state()
    assert (plain["drift"], plain.get("degraded", False)) == (False, False)
    words = [some_public_key() if word == "NEW" else word for word in by_hand]
    if words[0] == "wg":
        wg(*words[1:])
    else:
        ip(*words[1:])

    result = host.wgsvc("status", "wg0")

    assert result.code == 1
    assert "degraded" in result.out
    assert told in result.out
    state = json.loads(host.wgsvc("status", "--json", "wg0").out)["tunnels"][0]
    assert state["drift"] is True
    assert state["state"] == "up"
    host.ok("reload", "wg0")
    after = host.status("wg0")
    assert after["exit"] == 0
    assert after["tunnels"][0]["drift"] is False
    assert "no change" in host.ok("reload", "wg0").said


def test_handshakes_and_traffic_are_no_drift(host: Host) -> None:
    private = private_key()
    with far_host(host) as far:
        host.write(
            "wg0",
            f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\nAddress = 10.9.0.1/24\n"
            f"[Peer]\nPublicKey = {far.public}\nEndpoint = 192.0.2.2:{far.port}\n"
            "AllowedIPs = 10.9.0.2/32\n",
        )
        far.peer(public_key(private), "10.9.0.1/32")
        far.address("10.9.0.2/24")
        host.ok("start", "wg0")
        wait_for_ping("10.9.0.2")

        assert not host.state()["drift"]
        assert host.state()["peers"][0]["last_handshake"]


def test_a_supervisor_that_was_killed_reloads_again(host: Host) -> None:
    path = written(host, "PostUp = ip address add 10.6.0.1/32 dev %i")
    host.ok("start", "wg0")
    host.kill(host.supervisor())
    host.ok("start", "wg0")
    assert not host.state()["drift"]
    replace(path, ("192.168.3.0/24", "10.77.0.0/16"))

    host.ok("reload", "wg0")

    assert allowed(BOB) == {"10.77.0.0/16"}
    assert "192.168.3.0/24" not in ip("route")
    assert "10.6.0.1/32" in host.shown()["links"]["wg0"][2]


def test_a_reload_adopts_what_a_killed_supervisor_left(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    daemon = host.daemon()
    host.kill(host.supervisor())
    replace(path, ("192.168.3.0/24", "10.77.0.0/16"))

    host.ok("reload")

    assert allowed(BOB) == {"10.77.0.0/16"}
    assert host.daemon() == daemon
    host.kill(host.supervisor())
    wg("set", "wg0", "peer", BOB, "persistent-keepalive", "9")
    host.ok("save", "all")
    assert "PersistentKeepalive = 9" in path.read_text()


def test_a_path_means_its_interface(host: Host) -> None:
    path = written(host)
    relative = f".{path}"  # commands are run in /
    host.ok("start", relative)
    replace(path, ("192.168.3.0/24", "10.77.0.0/16"))

    host.ok("reload", relative)

    assert allowed(BOB) == {"10.77.0.0/16"}
    assert "up" in host.ok("status", relative).out


# --- what hooks did, and what came later


def test_what_a_hook_did_to_mtu_and_peers_counts_as_applied(host: Host) -> None:
    """But routes are the file's business: of a hook's peer none is missing."""
    added = some_public_key()
    path = written(
        host,
        "PostUp = ip link set dev %i mtu 1300; "
        f"wg set %i peer {added} allowed-ips 10.44.0.0/16; ip route add 10.55.0.0/16 dev %i",
    )
    host.ok("start", "wg0")
    assert host.state()["drift"] is False
    assert "no change" in host.ok("reload", "wg0").said
    daemon = host.daemon()
    host.kill(daemon)
    eventually(lambda: host.daemons() not in ([], [daemon]), what="respawned")
    eventually(lambda: host.state()["state"] == "up")
    assert host.state()["drift"] is False
    assert host.shown()["links"]["wg0"][1] == 1300
    replace(path, ("192.168.3.0/24", "10.77.0.0/16"))
    host.ok("reload", "wg0")
    routes = ip("route")
    assert "10.44.0.0/16" not in routes
    assert "10.55.0.0/16" in routes
    assert "10.77.0.0/16" in routes
    assert added in wg("show", "wg0", "peers")
    assert host.state()["drift"] is False


def test_an_mtu_that_was_saved_stays(host: Host) -> None:
    path = written(host)
    replace(path, ("MTU = 1400\n", ""))
    host.ok("start", "wg0")
    ip("link", "set", "dev", "wg0", "mtu", "1280")
    assert host.state()["drift"] is True
    host.ok("save", "wg0")
    assert "MTU = 1280" in path.read_text()
    assert host.state()["drift"] is False
    daemon = host.daemon()
    host.kill(daemon)
    eventually(lambda: host.daemons() not in ([], [daemon]), what="respawned")
    eventually(lambda: host.state()["state"] == "up")
    assert host.shown()["links"]["wg0"][1] == 1280


def test_a_missing_route_is_nothing_to_save(host: Host) -> None:
    written(host)
    host.ok("start", "wg0")
    ip("route", "del", "192.168.3.0/24")
    told = host.wgsvc("status", "wg0").out
    assert "wgsvc reload wg0 puts it right" in told
    assert "wgsvc save" not in told


# --- what is in other files


def test_a_drop_in_more_is_a_peer_more(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    folder = Path(f"{path}.d")
    folder.mkdir()
    carol = some_public_key()
    (folder / "carol.conf").write_text(
        f"[Peer]\n# wgsvc: name = Carol's laptop\nPublicKey = {carol}\nAllowedIPs = 10.77.0.0/16\n"
    )

    host.ok("reload", "wg0")

    assert allowed(carol) == {"10.77.0.0/16"}
    assert "Carol's laptop" in host.wgsvc("-v", "status", "wg0").out
    (folder / "carol.conf").unlink()
    host.ok("reload", "wg0")
    assert carol not in wg("show", "wg0", "peers")
    assert "10.77.0.0/16" not in ip("route")


def test_a_key_in_a_file_of_its_own(host: Host) -> None:
    path = written(host)
    text = path.read_text().splitlines(keepends=True)
    text[1] = "# wgsvc: private-key-file = wg0.key\n"
    path.write_text("".join(text))
    key = CONFIG_DIR / "wg0.key"
    first, second = private_key(), private_key()
    host.secrets += [first, second]
    key.write_text(first + "\n")
    key.chmod(0o600)
    host.ok("start", "wg0")
    assert wg("show", "wg0", "public-key").strip() == public_key(first)
    assert "no change" in host.ok("reload", "wg0").said
    key.write_text(second + "\n")

    result = host.ok("reload", "wg0")

    assert "sessions renewed" in result.said
    assert wg("show", "wg0", "public-key").strip() == public_key(second)


def test_an_endpoint_that_becomes_a_name_resolves(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    replace(path, ("127.0.0.1:9001", "localhost:9005"))

    host.ok("reload", "wg0")

    eventually(lambda: ":9005" in wg("show", "wg0", "endpoints"))
    assert "no change" in host.ok("reload", "wg0").said

"""A /0 on Linux: the mark, the table and the rules that wg-quick makes, and their end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.linux.far_side import (
    CLIENT,
    NAME_SERVER,
    SERVER,
    FarSide,
)
from tests.linux.full_client import (
    ELSEWHERE,
    INSIDE,
    OURS,
    _client,
    _far,
    client_tunnel,
    leaving,
    pings,
    wg_quick,
)
from tests.tunnels import Host, eventually, ip, some_public_key
from tests.witnesses import wg

__all__ = ["_client", "_far"]

pytestmark = pytest.mark.root

NUMERIC = f"{SERVER}:51820"
VALID_MARK = Path("/proc/sys/net/ipv4/conf/all/src_valid_mark")
BOTH = "0.0.0.0/0, ::/0"


def routing() -> tuple[str, str, list[str]]:
    """Return the rules, and the routes into the tunnel's table."""
    tables = [
        subprocess.run(
            ["ip", f"-{version}", "route", "show", "table", "51820"],
            capture_output=True, text=True, check=False,
        ).stdout.strip()  # an error where there is no such table
        for version in (4, 6)
    ]  # fmt: skip
    return ip("-4", "rule"), ip("-6", "rule"), tables


@pytest.mark.parametrize("allowed", ["0.0.0.0/0", "::/0", BOTH, f"{BOTH}, 10.66.0.0/16"])
def test_as_wg_quick_does_it(client: Host, allowed: str) -> None:
    client_tunnel(client, allowed=allowed, endpoint=NUMERIC)
    with wg_quick() as theirs:
        assert theirs.returncode == 0, theirs.stderr
        expected = routing(), wg("show", "wg0", "fwmark"), VALID_MARK.read_text()
    VALID_MARK.write_text("0")  # which wg-quick leaves behind

    client.ok("start", "wg0")

    found = routing(), wg("show", "wg0", "fwmark"), VALID_MARK.read_text()
    if "0.0.0.0/0" in allowed:
        assert found == expected
    else:
        assert found[:2] == expected[:2]
    assert client.status("wg0")["exit"] == 0
    assert "no change" in client.ok("reload", "wg0").said
    client.ok("stop", "wg0")
    assert VALID_MARK.read_text() == "0\n"
    client.untouched()


def test_the_mark_of_the_file_is_the_table_too(client: Host) -> None:
    client_tunnel(client, "FwMark = 0x1234", allowed=BOTH, endpoint=NUMERIC)

    client.ok("start", "wg0")

    assert wg("show", "wg0", "fwmark") == "0x1234\n"
    assert "default dev wg0" in ip("-4", "route", "show", "table", str(0x1234))
    assert pings(ELSEWHERE)


def test_a_table_that_is_in_use_is_passed_over(client: Host) -> None:
    ip("-6", "route", "add", "2001:db8:77::/48", "dev", "lo", "table", "51820")
    client.before = client.shown()
    client_tunnel(client, endpoint=NUMERIC)

    client.ok("start", "wg0")

    assert wg("show", "wg0", "fwmark") == "0xca6d\n"
    assert pings(ELSEWHERE)


KILL_SWITCH = (
    'nft -f - <<< "add table ip kill; '
    "add chain ip kill out {{ type filter hook output priority 0; }}; "
    "add rule ip kill out oifname != %i meta mark != $(wg show %i fwmark) "
    'fib daddr type != local reject"'
)


def test_a_kill_switch_by_the_mark(client: Host) -> None:
    hook = KILL_SWITCH.format()
    client_tunnel(
        client, f"PostUp = {hook}", "PreDown = nft delete table ip kill", endpoint=NUMERIC
    )
    with wg_quick() as theirs:
        assert theirs.returncode == 0, theirs.stderr
        assert pings(ELSEWHERE)

    client.ok("start", "wg0")

    assert pings(ELSEWHERE)
    ip("-4", "rule", "delete", "not", "fwmark", "51820", "table", "51820")
    with leaving() as seen:
        assert not pings(ELSEWHERE, wait_s=1)
    assert seen <= {f"udp {SERVER} 51820"}
    assert "rules that lead IPv4 into the tunnel are missing" in client.wgsvc("status").out
    client.ok("reload", "wg0")
    assert pings(ELSEWHERE)


def test_inbound_to_the_host_by_a_rule_of_its_own(client: Host, far: FarSide) -> None:
    """The usual way to keep a host reachable: what it answers goes by the main table."""
    up, down = (f"ip -4 rule {verb} from {CLIENT} lookup main" for verb in ("add", "del"))
    client_tunnel(client, f"PostUp = {up}", f"PostDown = {down}", endpoint=NUMERIC)

    client.ok("start", "wg0")

    far.run("ping", "-c1", "-W3", "-I", NAME_SERVER, CLIENT)
    assert pings(ELSEWHERE)


def test_two_full_tunnels_come_up_and_go_in_any_order(client: Host) -> None:
    """With wg-quick the encrypted packets of each go into the other."""
    peer = f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = {BOTH}\nEndpoint = {SERVER}:9\n"
    client.tunnel("wg1", peer=peer)
    client_tunnel(client, allowed=BOTH, endpoint=NUMERIC)
    for first, second in (("wg0", "wg1"), ("wg1", "wg0")):
        client.ok("start", "wg0")
        client.ok("start", "wg1")
        assert client.status("wg0", "wg1")["exit"] == 0, client.wgsvc("status").out
        eventually(lambda: client.state()["peers"][0]["last_handshake"], what="a handshake of wg0")
        assert {client.state(name)["mtu"] for name in ("wg0", "wg1")} == {1420}
        client.ok("stop", first)
        assert client.status(second)["exit"] == 0
        assert "lookup main" in ip("-4", "rule")
        assert "fwmark 0xca6c lookup main" not in ip("-4", "rule")
        assert ip("-4", "rule").count("suppress_prefixlength 0") == 1
        assert VALID_MARK.read_text() == "1\n"
        client.ok("stop", second)
        assert VALID_MARK.read_text() == "0\n"
        client.untouched()


def test_both_at_once_get_tables_of_their_own(client: Host) -> None:
    for number in (0, 1, 2):
        key = some_public_key()
        peer = f"[Peer]\nPublicKey = {key}\nAllowedIPs = {BOTH}\nEndpoint = {SERVER}:9\n"
        client.tunnel(f"wg{number}", number=number + 1, peer=peer)

    client.ok("start", "wg0", "wg1", "wg2")

    marks = {wg("show", f"wg{number}", "fwmark") for number in (0, 1, 2)}
    assert marks == {"0xca6c\n", "0xca6d\n", "0xca6e\n"}


def test_somebody_s_own_suppressing_rule_stays(client: Host) -> None:
    ip("-4", "rule", "add", "table", "main", "suppress_prefixlength", "0")
    ip("-4", "rule", "add", "from", "203.0.113.5", "table", "main", "suppress_prefixlength", "0")
    client.before = client.shown()
    client_tunnel(client, endpoint=NUMERIC)
    client.ok("start", "wg0")
    assert ip("-4", "rule").count("suppress_prefixlength 0") == 3

    client.ok("stop", "wg0")

    client.untouched()


def test_a_crash_of_wireguard_go_takes_neither_rules_nor_packets_outside(client: Host) -> None:
    client_tunnel(client, allowed=BOTH, endpoint=NUMERIC)
    client.ok("start", "wg0")
    assert pings(ELSEWHERE)
    before, pid = routing(), client.daemon()

    with leaving() as seen:
        pinging = subprocess.Popen(["ping", "-n", "-q", "-i", "0.05", ELSEWHERE],
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        client.kill(pid)
        eventually(lambda: client.daemons() not in ([], [pid]), what="it is back")
        eventually(lambda: pings(ELSEWHERE), within_s=30, what="packets pass")
        pinging.kill()
        pinging.wait()

    assert seen == {f"udp {SERVER} 51820"}
    assert routing() == before
    assert wg("show", "wg0", "fwmark") == "0xca6c\n"


def test_after_a_crash_of_everything_nothing_stays(client: Host) -> None:
    client_tunnel(client, allowed=BOTH, endpoint=NUMERIC)
    client.ok("start", "wg0")
    supervisor, daemon = client.supervisor(), client.daemon()
    client.kill(supervisor)
    client.kill(daemon)
    assert "fwmark" in ip("-4", "rule")  # nobody was there to take them away

    client.ok("stop", "wg0")

    client.untouched()
    assert VALID_MARK.read_text() == "0\n"


def test_an_heir_takes_table_and_rules_over(client: Host) -> None:
    client_tunnel(client, allowed=BOTH, endpoint=NUMERIC)
    client.ok("start", "wg0")
    before = routing()
    client.kill(client.supervisor())

    client.ok("start", "wg0")

    assert client.status("wg0")["exit"] == 0
    assert routing() == before
    assert "no change" in client.ok("reload", "wg0").said
    client.ok("stop", "wg0")
    client.untouched()
    assert VALID_MARK.read_text() == "0\n"


def test_the_automatic_mtu_is_not_the_tunnel_s_own_less_80(client: Host) -> None:
    """The way to the endpoint is that of marked packets, also once the rules lead others inside."""
    client_tunnel(client, endpoint=NUMERIC)
    client.ok("start", "wg0")

    ip("link", "set", "eth0", "mtu", "1300")

    eventually(lambda: client.state()["mtu"] == 1220, what="the uplink's less 80")
    assert client.status("wg0")["exit"] == 0
    ip("link", "set", "eth0", "mtu", "1500")
    eventually(lambda: client.state()["mtu"] == 1420, what="back again")


def strict() -> None:
    for name in ("all", "default", "eth0"):
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("1")


def filters() -> str:
    return subprocess.run(
        ["nft", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout


def test_through_a_strict_filter_of_the_way_back(client: Host) -> None:
    strict()
    client_tunnel(client, endpoint=NUMERIC)
    with wg_quick() as theirs:
        assert theirs.returncode == 0, theirs.stderr
        assert pings(ELSEWHERE)
    VALID_MARK.write_text("0")

    client.ok("start", "wg0")

    assert pings(ELSEWHERE)
    client.kill(client.supervisor())
    client.ok("start", "wg0")
    client.ok("stop", "wg0")
    assert filters() == ""


def test_the_tunnel_s_address_is_reached_through_the_tunnel_alone(
    client: Host, far: FarSide
) -> None:
    """CVE-2019-14899: who is on the local network learns nothing from forged packets."""
    client_tunnel(client, allowed=BOTH, endpoint=NUMERIC)
    client.ok("start", "wg0")
    assert pings()
    far.run("ip", "route", "replace", OURS, "via", CLIENT)
    outside = ["ping", "-n", "-q", "-c1", "-W1", "-I", "192.0.2.1", OURS]
    words = ["nsenter", "-t", str(far.pid), "-n", "--", *outside]

    assert subprocess.run(words, capture_output=True, check=False).returncode == 1

    path = Path("/etc/wireguard/wg0.conf")
    path.write_text(path.read_text().replace(f"{OURS}/32", f"{OURS}/32, 10.9.0.7/32"))
    client.ok("reload", "wg0")
    assert "10.9.0.7" in filters()
    path.write_text(path.read_text().replace(BOTH, "10.9.0.0/24"))
    client.ok("reload", "wg0")
    assert filters() == ""


def test_no_packet_filter_is_a_setting(client: Host) -> None:
    client.options = ["--set", "firewall=off"]
    client_tunnel(client, endpoint=NUMERIC)

    client.ok("start", "wg0")

    assert filters() == ""
    assert pings(ELSEWHERE)


def test_after_a_crash_of_everything_no_packet_filter_stays(client: Host) -> None:
    client_tunnel(client, allowed=BOTH, endpoint=NUMERIC)
    client.ok("start", "wg0")
    supervisor, daemon = client.supervisor(), client.daemon()
    client.kill(supervisor)
    client.kill(daemon)
    assert "wgsvc-wg0" in filters()

    client.ok("stop", "wg0")

    assert filters() == ""


@pytest.mark.parametrize("name", ["a+b=c.d_e-f", "0", "-x"[1:], "wg=0"])
def test_names_that_nft_does_not_take(client: Host, name: str) -> None:
    client_tunnel(client, name=name, endpoint=NUMERIC)

    client.ok("start", name)

    assert f'iifname != "{name}"' in filters()
    assert pings(ELSEWHERE)


def test_another_mark_takes_a_restart(client: Host) -> None:
    client_tunnel(client, endpoint=NUMERIC)
    client.ok("start", "wg0")
    client_tunnel(client, "FwMark = 77", endpoint=NUMERIC)

    result = client.wgsvc("reload", "wg0")

    assert result.code == 75
    assert "FwMark has changed" in result.err
    client.ok("restart", "wg0")
    assert pings(ELSEWHERE)


def test_a_full_tunnel_becomes_a_split_one_and_back(client: Host) -> None:
    client_tunnel(client, allowed="10.9.0.0/24", endpoint=NUMERIC)
    client.ok("start", "wg0")
    for allowed, mark in ((BOTH, "0xca6c\n"), ("10.9.0.0/24", "off\n"), ("0.0.0.0/0", "0xca6c\n")):
        client_tunnel(client, allowed=allowed, endpoint=NUMERIC)
        client.ok("reload", "wg0")
        assert wg("show", "wg0", "fwmark") == mark
        assert client.status("wg0")["exit"] == 0, allowed
        assert pings(INSIDE)
        full = "0.0.0.0/0" in allowed
        assert ("fwmark" in ip("-4", "rule")) == full
        assert pings(ELSEWHERE, wait_s=1) == full


def test_the_mark_is_neither_saved_nor_drift(client: Host) -> None:
    client_tunnel(client, "SaveConfig = true", endpoint=NUMERIC)
    client.ok("start", "wg0")
    text = Path("/etc/wireguard/wg0.conf").read_text()

    assert "no change" in client.ok("save", "wg0").said

    client.ok("stop", "wg0")
    assert Path("/etc/wireguard/wg0.conf").read_text() == text


def test_plan_says_it_all(client: Host) -> None:
    client_tunnel(client, endpoint=NUMERIC)

    told = client.ok("plan", "wg0").out.splitlines()

    assert told[-6].startswith("wg set wg0 fwmark 51820")
    assert told[-4].startswith("nft -f -  # ip wgsvc-wg0: ")
    assert [told[-5], *told[-3:]] == [
        "ip -4 route add 0.0.0.0/0 dev wg0 table 51820",
        "ip -4 rule add not fwmark 51820 table 51820",
        "ip -4 rule add table main suppress_prefixlength 0",
        "sysctl -q net.ipv4.conf.all.src_valid_mark=1",
    ]


def test_halves_are_a_setting(client: Host) -> None:
    client.options = ["--set", "full_tunnel=halves"]
    client_tunnel(client, endpoint=NUMERIC)

    client.ok("start", "wg0")

    routes = json.loads(ip("-json", "-4", "route", "show", "dev", "wg0"))
    assert {route["dst"] for route in routes} == {"0.0.0.0/1", "128.0.0.0/1"}
    assert "fwmark" not in ip("-4", "rule")
    assert pings(ELSEWHERE)

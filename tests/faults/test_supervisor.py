"""C01 to C14: the supervisor is killed, stopped, starved, at every step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.tunnels import ROOT, Host, Result, eventually, ip, some_public_key, way_out

pytestmark = pytest.mark.root

INJECT = str(Path(__file__).with_name("inject"))
HOOKS = (
    "PreUp = true",
    "PostUp = ip -4 rule add pref 77 lookup 77",
    "PreDown = ip -4 rule delete pref 77 2>/dev/null || true",
    "PostDown = ip -4 rule delete pref 77 2>/dev/null || true",
)
STARTING = {
    "c01": ["before lock", "after lock", "before journal:1", "after journal:1"],
    "c02": ["before Create", "after Create", "before spawn:1", "after spawn:1"],
    "c03": ["after StartDaemon", "before RunHook:1", "after RunHook:1"],
    "c04": ["before Configure", "after Configure"],
    "c05": ["before AddAddress:1", "after AddAddress:1", "after AddAddress:2", "after SetMtu"],
    "c06": ["before AddRoutes", "in routes", "after AddRoutes"],
    "c07": ["before RunHook:2", "before journal:4"],
    "c08": ["after RunHook:2", "after journal:4"],
}
STOPPING = [
    "before journal",
    "before RunHook:1",
    "after RunHook:1",
    "before StopDaemon",
    "after StopDaemon",
    "before Destroy",
    "after Destroy",
    "before RunHook:2",
    "after RunHook:2",
]


def injected(fault: str) -> Mapping[str, str]:
    """Return the environment of a command whose supervisor gets a fault."""
    return {"PYTHONPATH": f"{INJECT}:{ROOT}", "WGSVC_TEST_FAULT": fault}


def crashed_start(host: Host, fault: str) -> Result:
    """Start wg0 under a supervisor that is killed at a point."""
    result = host.wgsvc("start", "wg0", env=injected(f"crash {fault}"))
    eventually(lambda: not host.supervisors(), what="the supervisor is dead")
    return result


def cases(number: str) -> list[str]:
    """Return the points of a row."""
    return STARTING[number]


def recovers(host: Host, fault: str, then: str) -> None:
    """Crash a start, then start or stop by hand."""
    host.tunnel("wg0", *HOOKS)
    began = crashed_start(host, fault)
    # Each supervisor that the command tries until it gives up is killed, or it sees it die.
    assert began.code in (75, 76), began.said
    host.ok(then, "wg0")
    if then == "start":
        assert host.state()["state"] == "up"
        assert "77:\tfrom all lookup 77" in host.shown()["rules"]
        host.ok("stop", "wg0")
    eventually(lambda: not host.strangers(), what="nothing runs")
    host.untouched()


THEN = pytest.mark.parametrize("then", ["start", "stop"])


@THEN
@pytest.mark.parametrize("fault", cases("c01"))
@row(
    "kill -9 of the supervisor with the lock in hand, before and after its first journal",
    "start and stop succeed, nothing is left",
)
def test_c01_at_the_lock_and_the_first_journal(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@pytest.mark.parametrize("fault", cases("c02"))
@row(
    "kill -9 around making the interface and the start of wireguard-go, not yet in the journal",
    "start and stop succeed, no wireguard-go is left",
)
def test_c02_between_interface_and_child(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@pytest.mark.parametrize("fault", cases("c03"))
@row(
    "kill -9 once wireguard-go runs and is in the journal, around PreUp",
    "start and stop succeed, nothing is left",
)
def test_c03_after_spawn_and_journal(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@pytest.mark.parametrize("fault", cases("c04"))
@row("kill -9 before and after keys and peers are set", "start and stop succeed")
def test_c04_around_the_uapi_set(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@pytest.mark.parametrize("fault", cases("c05"))
@row("kill -9 between the addresses and the MTU", "start and stop succeed, no address is left")
def test_c05_amid_addresses(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@pytest.mark.parametrize("fault", cases("c06"))
@row("kill -9 when half of the routes are in", "start and stop succeed, no route is left")
def test_c06_amid_routes(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@pytest.mark.parametrize("fault", cases("c07"))
@row("kill -9 before PostUp and before the last journal", "start and stop succeed")
def test_c07_before_post_up(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@pytest.mark.parametrize("fault", cases("c08"))
@row("kill -9 after PostUp", "what the hook made is taken back by PostDown")
def test_c08_after_post_up(host: Host, fault: str, then: str) -> None:
    recovers(host, fault, then)


@THEN
@row("kill -9 while PostUp runs", "the hook ends or is left alone, start and stop succeed")
def test_c08_during_post_up(host: Host, then: str) -> None:
    host.tunnel("wg0", "PostUp = touch /run/hook-began; sleep 1", "PostDown = true")
    command = host.begin("start", "wg0")
    eventually(Path("/run/hook-began").exists)
    host.kill(host.supervisor())
    host.finish(command)

    host.ok(then, "wg0")


@pytest.mark.parametrize("then", ["start", "stop", "reload"])
@pytest.mark.parametrize(
    "fault",
    ["before AddRoutes", "after AddRoutes", "in routes", "before DeleteRoutes", "before journal:1"],
)
@row(
    "kill -9 amid a reload",
    "the tunnel goes on; start adopts it, reload ends what it began, stop takes it down",
)
def test_c09_amid_reload(host: Host, fault: str, then: str) -> None:
    path = host.tunnel("wg0")
    host.ok("start", "wg0")
    pid = host.daemon()
    host.kill(host.supervisor())
    host.ok("start", "wg0", env=injected(f"crash {fault}"))  # adopts
    path.write_text(path.read_text().replace("192.168.1.0/24", "192.168.2.0/24, 192.168.3.0/24"))
    host.wgsvc("reload", "wg0")
    eventually(lambda: not host.supervisors(), what="it was killed")
    assert host.daemon() == pid

    if then == "reload":
        host.ok("start", "wg0")
    host.ok(then, "wg0")

    if then != "stop":
        assert host.daemon() == pid
    if then == "reload":
        routes = "".join(host.shown()["routes"])
        assert "192.168.2.0/24" in routes
        assert "192.168.3.0/24" in routes
        assert "192.168.1.0/24" not in routes


@THEN
@pytest.mark.parametrize("fault", STOPPING)
@row("kill -9 at each step of a stop", "the next stop ends it; the next start begins anew")
def test_c10_amid_stop(host: Host, fault: str, then: str) -> None:
    host.tunnel("wg0", *HOOKS[2:])
    host.ok("start", "wg0")
    host.kill(host.supervisor())
    # The one that adopts the tunnel is the one that is killed.
    stopped = host.wgsvc("stop", "wg0", env=injected(f"crash {fault}"))
    assert stopped.code in (75, 76), stopped.said
    eventually(lambda: not host.supervisors())

    host.ok(then, "wg0")

    if then == "stop":
        eventually(lambda: not host.strangers())
        host.untouched()
    else:
        assert host.state()["state"] == "up"


@row("kill -9 of the idle supervisor, then start", "the same wireguard-go goes on, adopted")
def test_c11_killed_while_idle(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid, before = host.daemon(), host.shown()
    host.kill(host.supervisor())
    assert host.status("wg0")["exit"] == 1

    result = host.ok("start", "wg0")

    assert "already running" in result.said
    assert host.daemon() == pid
    assert host.shown() == before
    assert host.state()["children"][0] == {"role": "wireguard-go", "pid": pid, "adopted": True}


LATE = """\
import os, time
from wgsvc.system.linux import process
real = process.die_with_parent
def late():
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.01)
    real()
process.die_with_parent = late
"""


@row(
    "kill -9 of the supervisor when its route monitor and resolver have only just been forked",
    "they end with it; wireguard-go goes on and is adopted",
)
def test_c11_killed_before_its_children_know(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LATE)
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 192.168.7.0/24\n"
        "Endpoint = vpn.example.invalid:51820\n"
    )
    host.tunnel("wg0", peer=peer)
    host.ok("start", "wg0", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    eventually(lambda: len(host.strangers()) == 4, what="wireguard-go, supervisor, two forks of it")
    pid = host.daemon()

    host.kill(host.supervisor())

    eventually(lambda: [p.pid for p in host.strangers()] == [pid], what="only wireguard-go is left")
    host.ok("start", "wg0")
    assert host.daemon() == pid


@row("kill -9 of ten supervisors in a row, each adopting", "the same wireguard-go to the end")
def test_c11_killed_ten_times(host: Host) -> None:
    host.tunnel("wg0")
    host.tunnel("wg1", number=2)
    host.ok("start", "wg0", "wg1")
    pids = [host.daemon("wg0"), host.daemon("wg1")]
    for _ in range(10):
        host.kill(host.supervisor())
        host.ok("start", "wg0", "wg1")

    assert [host.daemon("wg0"), host.daemon("wg1")] == pids


@pytest.mark.parametrize("allowed", ["0.0.0.0/0", "0.0.0.0/1, 128.0.0.0/1"])
@row(
    "kill -9 under a tunnel for everything whose file was edited meanwhile, adoption",
    "the endpoint stays pinned to the real gateway, or the rules in force; no route changes",
)
def test_c11_adopted_default_route_after_an_edit(host: Host, allowed: str) -> None:
    way_out(host)
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = {allowed}\n"
        "Endpoint = 203.0.113.9:51820\n"
    )
    path = host.tunnel("wg0", peer=peer)
    host.ok("start", "wg0")
    before = host.shown()
    pinned = any("203.0.113.9 via 198.51.100.1" in route for route in before["routes"])
    assert pinned == (allowed != "0.0.0.0/0") != ("fwmark" in before["rules"])
    host.kill(host.supervisor())
    path.write_text(path.read_text() + "# edited\n")

    host.ok("start", "wg0")

    ip("address", "add", "198.51.100.3/24", "dev", "out0")  # has the pins looked at again
    ip("address", "delete", "198.51.100.3/24", "dev", "out0")
    eventually(lambda: host.state()["state"] == "up")
    assert host.shown() == before


@row("kill -9 of the supervisor, adoption, kill -9 of wireguard-go", "respawned, no route lost")
def test_c11_adopted_tunnel_survives_its_wireguard_go(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    before = host.shown()
    host.kill(host.supervisor())
    host.ok("start", "wg0")
    old = host.daemon()

    host.kill(old)

    eventually(lambda: host.daemons() not in ([], [old]))
    eventually(lambda: host.state()["state"] == "up")
    assert host.shown() == before


@pytest.mark.parametrize("then", ["start", "stop"])
@row("kill -9 of supervisor and wireguard-go together", "start begins anew, stop clears up")
def test_c12_both_killed(host: Host, then: str) -> None:
    host.tunnel("wg0", *HOOKS)
    host.ok("start", "wg0")
    daemon, supervisor = host.daemon(), host.supervisor()
    os.kill(supervisor, signal.SIGKILL)
    host.kill(daemon)
    assert host.status("wg0")["exit"] == 1

    host.ok(then, "wg0")

    if then == "stop":
        host.untouched()


@row("SIGSTOP of the supervisor for 3 s, SIGCONT", "nothing is restarted")
def test_c13_supervisor_stopped_and_continued(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid, supervisor = host.daemon(), host.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    time.sleep(3)  # it is this time that is the fault
    os.kill(supervisor, signal.SIGCONT)

    assert host.state()["state"] == "up"
    assert (host.daemon(), host.supervisor()) == (pid, supervisor)
    assert host.state()["deaths"] == 0


@row(
    "a file of 60 MiB, and 150 MB of address space to read it in",
    "an error in words, nothing changed",
)
def test_c14_no_memory_for_a_huge_file(host: Host) -> None:
    path = host.tunnel()
    path.write_text(path.read_text() + "AllowedIPs = " + "10.1.0.0/24, " * (5 << 20))
    host.startable.clear()

    command = " ".join(host.command("start", "wg0"))
    limited = host.sh(f"ulimit -v 150000; exec {command}")

    assert limited.code in (71, 78), limited.said
    assert "Traceback" not in limited.said
    eventually(lambda: not host.strangers())
    host.untouched()

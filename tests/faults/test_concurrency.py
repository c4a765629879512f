"""K01 to K11: many commands at once."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.faults.test_supervisor import injected
from tests.tunnels import (
    RUN_DIR,
    Host,
    Result,
    descriptors,
    eventually,
    script,
    some_public_key,
)

pytestmark = pytest.mark.root

ROUNDS = int(os.environ.get("WGSVC_TEST_ROUNDS", "40"))  # 200 take two minutes on two cores


def at_once(host: Host, commands: Sequence[tuple[str, ...]]) -> list[Result]:
    """Run commands at the same time; return how they went, in order."""
    running = [host.begin(*words) for words in commands]
    with ThreadPoolExecutor(len(running)) as pool:
        return list(pool.map(host.finish, running))


@pytest.mark.timeout(180)
@row("100 starts of one tunnel at once", "all exit 0; one supervisor, one wireguard-go")
def test_k01_hundred_starts(host: Host) -> None:
    host.tunnel()

    results = at_once(host, [("start", "wg0")] * 100)

    assert {result.code for result in results} == {0}, [r.said for r in results if r.code]
    assert len(host.daemons()) == 1
    assert len(host.supervisors()) == 1
    firsts = [result for result in results if "already running" not in result.err]
    assert len(firsts) >= 1
    assert len(firsts) + sum("already running" in r.err for r in results) == 100


@row("20 stops of one tunnel at once", "all exit 0, nothing is left")
def test_k01_twenty_stops(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")

    results = at_once(host, [("stop", "wg0")] * 20)

    assert {result.code for result in results} == {0}, [r.said for r in results if r.code]
    host.untouched()


@row("20 stops at once after the supervisor was killed", "all exit 0, nothing is left")
def test_k01_twenty_stops_without_a_supervisor(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    host.kill(host.supervisor())

    results = at_once(host, [("stop", "wg0")] * 20)

    assert {result.code for result in results} == {0}, [r.said for r in results if r.code]
    eventually(lambda: not host.strangers())
    host.untouched()


@pytest.mark.timeout(400)
@row(
    f"{ROUNDS} rounds of start against stop",
    "each says what it did; what is there afterwards is all or nothing, and the last wish counts",
)
def test_k02_start_against_stop(host: Host) -> None:
    host.tunnel()
    choices = random.Random(1)  # the order of a round, the same in each run
    for _ in range(ROUNDS):
        words = [("start", "wg0"), ("stop", "wg0")]
        choices.shuffle(words)
        results = dict(zip([word for word, _ in words], at_once(host, words), strict=True))
        # A start that a stop overtook says so (75); a stop always succeeds.
        assert results["stop"].code == 0, results["stop"].said
        assert results["start"].code in (0, 75), results["start"].said
        there = {"wg0"} & host.links()
        assert len(host.daemons()) == len(there)
        if results["start"].code == 75:
            eventually(lambda: not host.daemons())
    host.ok("start", "wg0")
    assert host.state()["state"] == "up"
    host.ok("stop", "wg0")
    host.untouched()


@pytest.mark.parametrize(
    "step",
    ["Create", "StartDaemon", "AddAddress:1", "SetUp", "Configure", "AddRoutes", "RunHook:1"],
)
@row("stop while a start is at each of its steps", "the start says it was stopped, nothing is left")
def test_k03_stop_during_start(host: Host, step: str) -> None:
    host.tunnel("wg0", "PostUp = true")
    starting = host.begin("start", "wg0", env=injected(f"freeze before {step}"))
    supervisor = eventually(frozen(host), what="the supervisor is frozen there")
    stopping = host.begin("stop", "wg0")
    eventually(lambda: waiting(stopping.pid), what="stop has asked")
    os.kill(supervisor, signal.SIGCONT)

    stopped, started = host.finish(stopping), host.finish(starting)

    assert stopped.code == 0, stopped.said
    assert started.code in (0, 75), started.said  # 0: it was ready before it read the stop
    eventually(lambda: not host.strangers())
    host.untouched()


def frozen(host: Host) -> Callable[[], int]:
    """Return what finds the process that is stopped, 0 if there is none."""

    def find() -> int:
        return next((process.pid for process in host.processes() if process.state == "T"), 0)

    return find


def waiting(pid: int) -> bool:
    """Return whether a process waits for a socket's answer."""
    return "poll" in Path(f"/proc/{pid}/wchan").read_text()


@row("reload, reload, stop, reload at once", "stop wins, nothing is left, no internal error")
def test_k04_reload_and_stop(host: Host) -> None:
    path = host.tunnel()
    host.ok("start", "wg0")
    path.write_text(path.read_text().replace("192.168.1.0/24", "192.168.77.0/24"))

    results = at_once(host, [(verb, "wg0") for verb in ("reload", "reload", "stop", "reload")])

    assert results[2].code == 0, results[2].said
    assert "internal" not in "".join(result.said for result in results)
    assert "internal" not in host.log()
    host.untouched()


@row(
    "two tunnels start, one of them with a wireguard-go that is slow",
    "the other does not wait for it",
)
def test_k05_in_parallel(host: Host, tmp_path: Path) -> None:
    go = tmp_path / "go"
    program = script(
        tmp_path / "wireguard-go",
        f'#!/bin/sh\n[ "$2" = wg0 ] && until [ -e {go} ]; do sleep 0.05; done\n'
        'exec wireguard-go "$@"\n',
    )
    host.tunnel("wg0")
    host.tunnel("wg1", number=2)
    host.options = ["--set", f"wireguard_go={program}", "--set", "ready_timeout_s=40"]
    slow = host.begin("start", "wg0")
    eventually(host.daemons, what="the slow one has begun")

    host.ok("start", "wg1")

    assert slow.poll() is None
    go.touch()
    assert host.finish(slow).code == 0


@row("8 tunnels started and stopped in one command", "all up, all gone, none waits for another")
def test_k05_eight_in_one_command(host: Host) -> None:
    names = [f"wg{number}" for number in range(8)]
    for number, name in enumerate(names):
        host.tunnel(name, number=number + 1)

    host.ok("start", *names)
    assert host.status()["exit"] == 0
    assert [tunnel["name"] for tunnel in host.status()["tunnels"]] == names
    host.ok("stop")

    host.untouched()


@row("`start all` twice at once, as two boots of the service", "both exit 0, each tunnel runs once")
def test_k06_service_twice(host: Host) -> None:
    host.tunnel("wg0")
    host.tunnel("wg1", number=2)

    results = at_once(host, [("start", "all"), ("start", "all")])

    assert [result.code for result in results] == [0, 0]
    assert (len(host.daemons("wg0")), len(host.daemons("wg1"))) == (1, 1)


@row(
    "kill -9 of the command while its start runs",
    "the start goes on; the lock is nobody's but the supervisor's",
)
def test_k07_command_killed(host: Host) -> None:
    host.tunnel("wg0", "PostUp = sleep 0.5")
    command = host.begin("start", "wg0")
    eventually(host.supervisors)
    command.kill()
    host.finish(command)

    eventually(lambda: host.state()["state"] == "up")


@row(
    "the lock file is removed under a running supervisor",
    "a second start finds the first supervisor",
)
def test_k08_lock_removed(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid = host.daemon()
    (RUN_DIR / "wgsvc.pid").unlink()

    again = host.ok("start", "wg0")

    assert "already running" in again.said
    assert host.daemon() == pid


@row(
    "lock file and control socket are both removed under a running supervisor",
    "a second supervisor does not touch the first one's tunnel: refused, told, or adopted",
)
def test_k08_lock_and_socket_removed(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid, first = host.daemon(), host.supervisor()
    (RUN_DIR / "wgsvc.pid").unlink()
    (RUN_DIR / "control.sock").unlink()

    host.wgsvc("start", "wg0")

    assert host.daemons() == [pid]
    assert "wg0" in host.links()
    host.kill(first)


@row(
    "two reloads queued, one of them under way, then a stop",
    "all three are answered, the stop is not beside a reload, nothing is left",
)
def test_k09_a_stop_behind_two_reloads(host: Host) -> None:
    path = host.tunnel()
    host.ok("start", "wg0")
    daemon = host.daemon()
    path.write_text(path.read_text().replace("[Interface]", "[Interface]\nMTU = 1300"))
    before = sockets(host)
    host.kill(daemon, signal.SIGSTOP)  # the first reload waits for its answer
    first, second = host.begin("reload", "wg0"), host.begin("reload", "wg0")
    eventually(lambda: sockets(host) == before + 3, what="two callers, one question to WireGuard")

    stop = host.wgsvc("stop", "wg0")

    assert stop.code == 0, stop.said
    for reload in (first, second):
        result = host.finish(reload, timeout_s=5)
        assert result.code == 75, result.said
        assert "was stopped" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()


def sockets(host: Host) -> int:
    """Return how many sockets the supervisor has: one for each caller, among others."""
    held = descriptors(host.supervisor()).values()
    return sum(target.startswith("socket:") for target in held)


@row(
    "the first three forks of the route monitor fail (EAGAIN)",
    "it is tried again until it runs, and endpoints are pinned to the way of then",
)
def test_k10_the_route_monitor_can_t_be_forked(host: Host) -> None:
    host.tunnel()

    host.ok("start", "wg0", env=injected("eagain before fork-route-monitor"))

    def roles() -> set[str]:
        return {child["role"] for child in host.state()["children"]}

    eventually(lambda: "route-monitor" in roles(), what="a route monitor runs")
    assert "the route monitor: fork route-monitor" in host.log()


@row(
    "the first three forks that resolve a name fail (EAGAIN)",
    "the name is looked up again, and found",
)
def test_k11_a_resolver_can_t_be_forked(host: Host) -> None:
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 192.168.7.0/24\n"
        "Endpoint = localhost:51820\n"
    )
    host.tunnel("wg0", peer=peer)

    host.ok("start", "wg0", env=injected("eagain before fork-resolver"))

    eventually(lambda: host.state()["peers"][0]["endpoint"], what="its address")

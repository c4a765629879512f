"""
One file with a mistake among several: the others come up, and the mistake is told once.

On stderr with its place, in syslog (at boot nobody sees stderr), by exit status 78.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path

import pytest

from tests.tunnels import CONFIG_DIR, RUN_DIR, Host, Result, eventually, private_key

pytestmark = pytest.mark.root


@pytest.fixture(name="typo")
def _typo(host: Host) -> Path:
    """Write three files, the middle one with two mistakes; return that."""
    host.tunnel("wg0", number=1)
    path = host.write(
        "wg1", f"[Interface]\nPrivateKey = {private_key()}\nAdress = 10.0.0.1\nMTU = x\n"
    )
    host.startable.discard("wg1")
    host.tunnel("wg2", number=2)
    return path


def logged(host: Host, verb: str, times: int = 1) -> None:
    """Check that syslog has heard of both mistakes, and how often."""
    refused = f"wg1: {verb} refused: {CONFIG_DIR}/wg1.conf:"
    eventually(lambda: host.log().count(refused) >= 2 * times, what="it is in syslog")
    log = host.log()
    assert log.count(f"{refused}3:1: Adress: no such key in [Interface]; did you mean") == times
    assert log.count(f'{refused}4:7: MTU: "x" must be a number') == times
    assert log.count("wg1") == 4 * times, log


def told(result: Result) -> None:
    assert result.code == 78, result.said
    assert result.err.count("wg1.conf:3:1: Adress: no such key") == 1, result.said
    assert result.err.count('wg1.conf:4:7: MTU: "x" must be') == 1, result.said


@pytest.mark.parametrize(
    "words",
    [("start", "wg0", "wg1", "wg2"), ("up", "wg1", "wg0", "wg2"), ("start", "all"),
     ("restart", "wg2", "wg1", "wg0", "wg1")],
)  # fmt: skip
@pytest.mark.usefixtures("typo")
def test_the_others_come_up_without_a_supervisor_before(host: Host, words: tuple[str, ...]) -> None:
    result = host.wgsvc(*words)

    told(result)
    assert [host.state(name)["state"] for name in ("wg0", "wg2")] == ["up", "up"]
    assert "wg1" not in host.links()
    logged(host, "restart" if "restart" in words else "start")


@pytest.mark.parametrize("verb", ["start", "restart"])
@pytest.mark.usefixtures("typo")
def test_the_others_come_up_under_a_supervisor(host: Host, verb: str) -> None:
    host.tunnel("wg3", number=3)
    host.ok("start", "wg3")

    result = host.wgsvc(verb, "wg0", "wg1", "wg2")

    told(result)
    assert host.links() == {"lo", "wg0", "wg2", "wg3"}
    logged(host, verb)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.usefixtures("typo")
def test_results_are_in_the_order_of_the_names(host: Host, *, running: bool) -> None:
    if running:
        host.ok("start", "wg2")
    names = ["wg2", "wg7", "wg1", "wg0"]

    result = host.wgsvc("start", "--json", *names)

    results = json.loads(result.out)["results"]
    assert [each["name"] for each in results] == names
    assert [each["exit_code"] for each in results] == [0, 78, 78, 0]
    assert [len(each["diagnostics"]) for each in results[1:3]] == [1, 2]
    assert "wg7: start refused: wg7: no such file" in eventually(host.log)


def test_all_bad_starts_no_supervisor(host: Host, typo: Path) -> None:
    (CONFIG_DIR / "wg3.conf").write_bytes(typo.read_bytes())
    (CONFIG_DIR / "wg3.conf").chmod(0o600)

    result = host.wgsvc("start", "wg1", "wg3")

    told(result)
    assert "wg3.conf:4:7" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    assert not RUN_DIR.exists()
    logged(host, "start")


@pytest.mark.usefixtures("typo")
def test_a_file_with_hundreds_of_mistakes_does_not_fill_the_log(host: Host) -> None:
    keys = ("Address", "DNS", "MTU", "ListenPort", "Table")
    host.write("wg1", "[Interface]\n" + "".join(f"{key} = /\n" * 100 for key in keys))
    host.startable.discard("wg1")

    result = host.wgsvc("start", "wg1", "wg0")

    assert result.code == 78
    lines = [line for line in result.err.splitlines() if "wg1.conf" in line]
    assert len([line for line in lines if "warning" not in line]) == 5 * 21
    assert host.log().count("wg1: start refused: /etc") == 20
    assert (
        "wg1: start refused: and 85 more errors; wgsvc check /etc/wireguard/wg1.conf" in host.log()
    )


@pytest.mark.usefixtures("typo")
def test_commands_that_race_for_the_supervisor_tell_it_once_each(host: Host) -> None:
    commands = [host.begin("start", name, "wg1") for name in ("wg0", "wg2", "wg0", "wg2")]

    for command in commands:
        told(host.finish(command))
    assert host.links() == {"lo", "wg0", "wg2"}
    logged(host, "start", 4)


@pytest.mark.usefixtures("typo")
def test_a_supervisor_that_can_not_be_is_told_as_well(host: Host) -> None:
    RUN_DIR.mkdir()
    RUN_DIR.chmod(0o777)

    result = host.wgsvc("start", "wg0", "wg1")

    told(result)
    assert "chmod 750 /var/run/wgsvc" in result.err
    RUN_DIR.rmdir()


@pytest.mark.usefixtures("typo")
def test_a_supervisor_that_never_answers_is_told_as_well(host: Host) -> None:
    """The command tries to start one again and again; the file it reads once."""
    RUN_DIR.mkdir(0o750)
    with (RUN_DIR / "wgsvc.pid").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        result = host.wgsvc("start", "wg0", "wg1")

    told(result)
    assert "is held by another wgsvc" in result.err
    assert "does not answer" in result.err
    logged(host, "start")


def test_reload_and_sighup_go_on_with_the_others(host: Host, typo: Path) -> None:
    bad = typo.read_text()
    host.tunnel("wg1", number=3)
    host.ok("start", "all")
    typo.write_text(bad)
    host.startable.discard("wg1")
    for name in ("wg0", "wg2"):
        path = CONFIG_DIR / f"{name}.conf"
        path.write_text(path.read_text().replace("[Peer]", "ListenPort = 0\nMTU = 1400\n[Peer]"))
    before, mtu = host.log().count("wg1"), host.shown()["links"]["wg1"][1]

    told(host.wgsvc("reload"))

    links = host.shown()["links"]
    assert [links[name][1] for name in ("wg0", "wg1", "wg2")] == [1400, mtu, 1400]
    refused = "wg1: reload refused: "
    assert host.log().count(refused) == 2
    os.kill(host.supervisor(), signal.SIGHUP)
    eventually(lambda: host.log().count(refused) == 4)
    eventually(lambda: "wg2: reload: no change (SIGHUP)" in host.log())
    assert host.log().count("wg1") == before + 2 * 4
    assert host.state("wg1")["state"] == "up"


def test_reload_all_starts_what_is_new_and_good(host: Host, typo: Path) -> None:
    bad = typo.read_text()
    typo.unlink()
    (CONFIG_DIR / "wg2.conf").rename(CONFIG_DIR / "later")
    host.ok("start", "wg0")
    typo.write_text(bad)
    (CONFIG_DIR / "later").rename(CONFIG_DIR / "wg2.conf")

    told(host.wgsvc("reload", "all"))

    assert host.links() == {"lo", "wg0", "wg2"}
    logged(host, "start")


@pytest.mark.usefixtures("typo")
def test_plan_goes_on_with_the_others(host: Host) -> None:
    result = host.wgsvc("plan", "wg0", "wg1", "wg2")

    told(result)
    assert "wg1 has errors: nothing is planned for it" in result.err
    for name in ("wg0", "wg2"):
        assert f"ip link set up dev {name}" in result.out
    assert "wg1" not in result.out

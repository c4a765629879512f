"""What syslog is told: what was asked for, by whom, and when a supervisor begins and ends."""

from __future__ import annotations

import signal

import pytest

from tests.tunnels import CONFIG_DIR, Host, eventually
from tests.witnesses import wg
from wgsvc import __version__

pytestmark = pytest.mark.root


def asked(host: Host, *words: str) -> tuple[int, str]:
    """Run a command; return its exit status, and who it was in the words of the log."""
    command = host.begin(*words)
    return host.finish(command).code, f"(uid 0, PID {command.pid})"


def test_each_wish_is_a_line_with_who_had_it(host: Host) -> None:
    path = host.tunnel()
    code, starter = asked(host, "start", "wg0")
    assert code == 0
    supervisor = host.supervisor()
    (key,) = wg("show", "wg0", "peers").split()
    wg("set", "wg0", "peer", key, "persistent-keepalive", "25")
    saver = asked(host, "save", "wg0")[1]
    path.write_text(path.read_text().replace("192.168.1.0/24", "192.168.77.0/24"))
    reloader = asked(host, "reload")[1]
    again = asked(host, "reload", "wg0")[1]
    restarter = asked(host, "restart", "wg0")[1]
    stopper = asked(host, "stop")[1]
    eventually(lambda: "supervisor ends" in host.log())

    lines = [line for line in host.log().splitlines() if f"wgsvc[{supervisor}]" in line]
    told = "\n".join(line.split("]: ", 1)[1] for line in lines)
    for line in (
        f"supervisor {__version__} begins {starter}",
        f"wg0: save: saved {saver}",
        f"wg0: reload: reloaded {reloader}",
        f"wg0: reload: no change {again}",
        f"wg0: restart {restarter}",
        f"wg0: stop {stopper}",
        "supervisor ends: no tunnel is left",
    ):
        assert told.splitlines().count(line) == 1, (line, told)
    assert "pkill" not in told


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("verb", ["start", "restart", "reload"])
def test_a_file_that_is_refused(host: Host, verb: str, *, runs: bool) -> None:
    host.tunnel("wg0")
    path = host.tunnel("wg1", number=2)
    if runs or verb == "reload":
        host.ok("start", "wg0", *(["wg1"] if verb == "reload" else []))
    text = path.read_text()
    path.write_text(text.replace("[Interface]", "[Interface]\nAdress = 10.2.0.1/24"))

    code, who = asked(host, verb, "wg1")

    assert code == 78
    refused = [line for line in host.log().splitlines() if f"wg1: {verb} refused: " in line]
    assert len(refused) == 1
    assert refused[0].endswith(f"Adress: no such key in [Interface]; did you mean Address? {who}")
    path.write_text(text)


def test_sighup_and_sigterm(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    host.kill(host.supervisor(), signal.SIGHUP)
    eventually(lambda: "wg0: reload: no change (SIGHUP)" in host.log())
    host.kill(host.supervisor(), signal.SIGTERM)

    eventually(lambda: "supervisor ends: no tunnel is left" in host.log())
    assert "SIGTERM: stopping all tunnels" in host.log()


def test_one_that_takes_the_place_of_another(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")

    code, who = asked(host, "daemon", "--replace")

    assert code == 0
    assert f"a new supervisor is to take the place of this one {who}" in host.log()
    assert "supervisor ends: another one takes over wg0" in host.log()
    assert f"begins {who}" in host.log()


def test_a_roll_back_shows_no_command_that_nobody_ran(host: Host) -> None:
    host.tunnel()
    host.startable.clear()
    host.options = ["--set", "wireguard_go=/bin/false"]

    result = host.wgsvc("start", "wg0")

    assert result.code == 69, result.said
    assert "pkill" not in result.said + host.log()
    host.options = []
    assert CONFIG_DIR.is_dir()

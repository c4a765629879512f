"""PreUp, PostUp, PreDown, PostDown: order, environment, and a failure at each place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tunnels import Host, eventually

pytestmark = pytest.mark.root

SAYS = Path("/run/said")


def says(event: str) -> str:
    """Return a hook that notes that it ran, and what it found."""
    return f"{event} = echo {event} $(ip -oneline link show %i 2>/dev/null | wc -l) >>{SAYS}"


def said() -> list[str]:
    """Return what the hooks noted so far."""
    return SAYS.read_text().splitlines() if SAYS.exists() else []


def test_order_and_what_is_there_when_they_run(host: Host) -> None:
    events = ("PreUp", "PostUp", "PreDown", "PostDown")
    host.tunnel("wg0", *(says(event) for event in events), says("PostUp"))

    host.ok("start", "wg0")
    host.ok("stop", "wg0")

    # The interface is there in all but PostDown.
    assert said() == ["PreUp 1", "PostUp 1", "PostUp 1", "PreDown 1", "PostDown 0"]


def test_environment_is_fixed_and_names_interface_event_and_reason(host: Host) -> None:
    host.tunnel("wg0", f"PostUp = env >{SAYS}", f"PostDown = env >{SAYS}-down")

    host.ok("start", "wg0", env={"LD_PRELOAD": "", "SECRET": "x", "BASH_ENV": "/etc/passwd"})
    host.ok("stop", "wg0")

    up = dict(line.partition("=")[::2] for line in said())
    down = dict(line.partition("=")[::2] for line in Path(f"{SAYS}-down").read_text().splitlines())
    assert up["WGSVC_INTERFACE"] == up["WG_INTERFACE"] == "wg0"
    assert (up["WGSVC_EVENT"], up["WGSVC_REASON"]) == ("PostUp", "start")
    assert (down["WGSVC_EVENT"], down["WGSVC_REASON"]) == ("PostDown", "stop")
    assert set(up) - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "PATH", "HOME", "LANG", "LC_ALL",
        "WG_INTERFACE", "WGSVC_INTERFACE", "WGSVC_EVENT", "WGSVC_REASON",
    }  # fmt: skip


def test_percent_i_is_the_interface_and_nothing_else_is_replaced(host: Host) -> None:
    host.tunnel("wg-x.1", f"PostUp = echo '%i %I %% $USER' > {SAYS}")

    host.ok("start", "wg-x.1")

    assert said() == ["wg-x.1 %I %% $USER"]


def test_output_is_shown(host: Host) -> None:
    host.tunnel("wg0", "PostUp = echo to-stdout; echo to-stderr >&2")

    shown = host.ok("start", "wg0").err

    assert "to-stdout\n" in shown
    assert "to-stderr\n" in shown


def test_stdin_is_empty(host: Host) -> None:
    host.tunnel("wg0", f"PostUp = cat >{SAYS}; echo end >>{SAYS}")

    host.ok("start", "wg0")

    assert said() == ["end"]


@pytest.mark.parametrize("event", ["PreUp", "PostUp"])
@pytest.mark.parametrize("how", ["exit 3", "kill -9 $$", "no-such-program-anywhere"])
def test_a_failure_on_the_way_up_takes_everything_back(host: Host, event: str, how: str) -> None:
    host.tunnel("wg0", says("PreUp"), f"{event} = {how}", says("PostDown"))
    host.startable.clear()

    result = host.wgsvc("start", "wg0")

    assert result.code == 71, result.said
    assert f"wg0: {event}" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    assert said() == ["PreUp 1", "PostDown 0"]  # what PreUp did, PostDown undoes


@pytest.mark.parametrize("event", ["PreDown", "PostDown"])
def test_a_failure_on_the_way_down_is_told_and_stops_nothing(host: Host, event: str) -> None:
    path = host.tunnel("wg0", f"{event} = exit 3", says("PostDown"))
    host.ok("start", "wg0")

    result = host.wgsvc("stop", "wg0")

    assert result.code == 71, result.said
    assert f"wg0: {event} exited with 3" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    assert said() == ["PostDown 0"]
    host.startable.clear()
    assert path.exists()


def test_start_fails_and_its_roll_back_too(host: Host) -> None:
    host.tunnel("wg0", "PostUp = exit 3", "PostDown = exit 4")
    host.startable.clear()

    result = host.wgsvc("start", "wg0")

    assert result.code == 71
    assert "PostUp exited with 3" in result.err
    assert "PostDown exited with 4" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()


def test_hooks_can_be_switched_off(host: Host) -> None:
    host.tunnel("wg0", says("PostUp"), says("PostDown"))
    host.options = ["--set", "hooks=off"]

    host.ok("start", "wg0")
    host.ok("stop", "wg0")

    assert said() == []


def test_the_shell_is_a_setting(host: Host) -> None:
    host.tunnel("wg0", f"PostUp = readlink /proc/$$/exe >{SAYS}")
    host.options = ["--set", "hook_shell=/bin/sh"]

    host.ok("start", "wg0")

    assert said() == [os.path.realpath("/bin/sh")]


def test_a_hook_may_call_wg_and_ip(host: Host) -> None:
    host.tunnel("wg0", "PostUp = wg set %i fwmark 7", "PostUp = ip route add 203.0.113.0/24 dev %i")

    host.ok("start", "wg0")

    assert host.state()["fwmark"] == 7
    assert "-4 203.0.113.0/24 dev wg0 scope link" in host.shown()["routes"]


def test_a_hook_that_calls_wgsvc_itself_does_not_hang(host: Host) -> None:
    wgsvc = f"cd / && PYTHONPATH={host.environment()['PYTHONPATH']} " + " ".join(host.command())
    host.tunnel("wg0", f"PostUp = {wgsvc} status wg0 >{SAYS} || true")

    host.ok("start", "wg0")

    assert "starting" in "".join(said())

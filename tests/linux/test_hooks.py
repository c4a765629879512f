"""PreUp, PostUp, PreDown, PostDown: in order, with what they need to know; a failure at each."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.tunnels import Host, eventually, ip

pytestmark = pytest.mark.root

TOLD = Path("/run/told")
NOTE = "echo {} %i $WGSVC_INTERFACE $WGSVC_EVENT $WGSVC_REASON >>/run/told"
ALL = [
    f"{event} = {NOTE.format(number)}"
    for event in ("PreUp", "PostUp", "PreDown", "PostDown")
    for number in (1, 2)
]


def told() -> list[str]:
    return TOLD.read_text().splitlines() if TOLD.exists() else []


def test_in_order_each_with_the_interface_the_event_and_the_reason(host: Host) -> None:
    host.tunnel("wg0", *ALL)

    host.ok("start", "wg0")
    host.ok("stop", "wg0")

    assert told() == [
        f"{number} wg0 wg0 {event} {reason}"
        for event, reason in (
            ("PreUp", "start"), ("PostUp", "start"), ("PreDown", "stop"), ("PostDown", "stop")
        )
        for number in (1, 2)
    ]  # fmt: skip


def test_what_is_there_at_each_place(host: Host) -> None:
    """As under wg-quick: the interface before PreUp; all of it at PostUp; nothing at PostDown."""
    see = "(ip -br addr show dev %i; ip route show dev %i; wg show %i peers) 2>/dev/null | wc -l"
    host.tunnel(
        "wg0",
        *(f"{event} = echo {event} $({see}) >>/run/told" for event in
          ("PreUp", "PostUp", "PreDown", "PostDown")),
    )  # fmt: skip

    host.ok("start", "wg0")
    host.ok("stop", "wg0")

    seen = dict(line.split() for line in told())
    assert seen["PreUp"] == "1"  # the link, no address
    assert seen["PostUp"] == seen["PreDown"] == "4"  # link, two routes, peer
    assert seen["PostDown"] == "0"


def test_the_environment_is_fixed(host: Host) -> None:
    host.tunnel("wg0", "PostUp = env >/run/told")

    host.ok(
        "start", "wg0", env={"LD_PRELOAD": "", "BASH_ENV": "/run/evil", "PATH": "/usr/bin:/bin"}
    )

    names = {line.partition("=")[0] for line in told()}
    assert {"PATH", "WG_INTERFACE", "WGSVC_INTERFACE", "WGSVC_EVENT", "WGSVC_REASON"} <= names
    assert not names & {"LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "WG_TUN_FD"}


def test_its_output_goes_to_the_caller_and_to_syslog(host: Host) -> None:
    host.tunnel("wg0", "PostUp = echo hello; echo there >&2")

    result = host.ok("start", "wg0")

    assert "hello\n" in result.err
    assert "there\n" in result.err
    log = host.log()
    assert "wg0: PostUp: hello" in log
    assert "wg0: PostUp: there" in log


@pytest.mark.parametrize("event", ["PreUp", "PostUp"])
def test_a_failure_before_ready_rolls_back(host: Host, event: str) -> None:
    host.tunnel("wg0", f"{event} = exit 7", "PostDown = echo down >>/run/told")

    result = host.wgsvc("start", "wg0")

    assert result.code == 71
    assert f"{event} exited with 7" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    assert told() == ["down"]  # what a hook did only a hook can undo
    host.startable.clear()


@pytest.mark.parametrize("event", ["PreDown", "PostDown"])
def test_a_failure_at_stop_is_told_and_stops_no_stop(host: Host, event: str) -> None:
    host.tunnel("wg0", f"{event} = exit 7", f"{event} = {NOTE.format(2)}")
    host.ok("start", "wg0")

    result = host.wgsvc("stop", "wg0")

    assert result.code == 71
    assert f"{event} exited with 7" in result.err
    assert told() == [f"2 wg0 wg0 {event} stop"]
    eventually(lambda: not host.strangers())
    host.untouched()
    host.startable.clear()


def test_hooks_off_runs_none(host: Host) -> None:
    host.options = ["--set", "hooks=off"]
    host.tunnel("wg0", *ALL)

    host.ok("start", "wg0")
    host.ok("stop", "wg0")

    assert told() == []


@pytest.mark.parametrize(
    ("options", "shell"),
    [([], "bash"), (["--set", "hook_shell=/bin/sh"], "sh")],
)
def test_bash_runs_them_or_what_a_setting_names(host: Host, options: list[str], shell: str) -> None:
    host.options = options
    host.tunnel("wg0", "PostUp = echo ${BASH_VERSION:+bash}${BASH_VERSION:-sh} >/run/told")

    host.ok("start", "wg0")

    assert told()[0].startswith(shell)


def test_a_file_that_others_can_write_runs_no_hook(host: Host) -> None:
    path = host.tunnel("wg0", *ALL)
    path.chmod(0o666)

    result = host.wgsvc("start", "wg0")

    assert result.code in (77, 78)
    assert told() == []
    host.untouched()
    path.chmod(0o600)


def test_a_reload_runs_none_and_the_next_stop_runs_those_of_the_new_file(host: Host) -> None:
    path = host.tunnel("wg0", "PostUp = echo old >>/run/told", "PostDown = echo old >>/run/told")
    host.ok("start", "wg0")
    path.write_text(path.read_text().replace("echo old", "echo new"))

    host.ok("reload", "wg0")

    assert told() == ["old"]
    host.ok("stop", "wg0")
    assert told() == ["old", "new"]


SECRET = "in-a-hook"  # noqa: S105 - a word to look for
DIFFERS = [
    "PreUp differs: it runs at the next start",
    "PostUp differs: it runs at the next start",
    "PreDown differs: it runs at the next stop",
    "PostDown differs: it runs at the next stop",
]


def test_a_reload_and_a_plan_say_which_hooks_differ_and_when_they_run(host: Host) -> None:
    path = host.tunnel("wg0", *ALL)
    before = path.read_text()
    host.ok("start", "wg0")
    for number, event in enumerate(("PreUp", "PostUp", "PreDown", "PostDown")):
        text = path.read_text()
        path.write_text(text.replace(f"{event} = echo 2", f"{event} = true {SECRET}; echo 2"))

        planned, done = host.ok("plan", "wg0"), host.ok("reload", "wg0")

        assert planned.out == f"# {DIFFERS[number]}\n"
        assert f"wg0: {DIFFERS[number]}\n" in done.err
        assert "differs" not in done.err.replace(DIFFERS[number], "")
        assert "no change" not in done.said
        assert "no change" in host.ok("reload", "wg0").said  # it is the file that is applied now
        assert SECRET not in "".join(host.said) + host.log()

    path.write_text(before.replace("fd00:1::1/64", "fd00:1::1/64, 10.7.0.1/32"))
    assert [line for line in host.ok("plan", "wg0").out.splitlines() if "differs" in line] == [
        f"# {line}" for line in DIFFERS
    ]
    done = host.ok("reload", "wg0")
    assert [line for line in done.err.splitlines() if "differs" in line] == [
        f"wg0: {line}" for line in DIFFERS
    ]
    assert "+ ip -4 address add 10.7.0.1/32 dev wg0" in done.err


def test_hooks_that_are_off_do_not_differ(host: Host) -> None:
    host.options = ["--set", "hooks=off"]
    path = host.tunnel("wg0", *ALL)
    host.ok("start", "wg0")
    path.write_text(path.read_text().replace("PostUp = echo 2", "PostUp = echo 3"))

    assert "# wg0: no change" in host.ok("plan", "wg0").out
    assert "no change" in host.ok("reload", "wg0").said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_syslog_never_has_the_text_of_a_hook(host: Host, number: int) -> None:
    """It may hold a secret; whoever asked for a stop or a start sees it, syslog does not."""
    host.tunnel("wg0", "PreUp = true SECRETWORD", "PostDown = true SECRETWORD")
    shown = host.ok("start", "wg0").err
    assert "[#] true SECRETWORD" in shown
    daemon = host.daemon()
    ip("link", "delete", "wg0")  # it is built anew
    eventually(lambda: host.daemons() not in ([], [daemon]), what="another wireguard-go")
    eventually(lambda: host.state()["state"] == "up")
    host.kill(host.supervisor(), number)
    eventually(lambda: not host.strangers(), what="all have ended")

    log = host.log()
    assert "[#] # PreUp" in log
    assert "[#] # PostDown" in log
    assert "SECRETWORD" not in log

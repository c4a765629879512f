"""PreUp, PostUp, PreDown, PostDown on a real FreeBSD kernel."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import TUNNEL, eventually, stop_process, why_no_jails

if TYPE_CHECKING:
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]

EVENTS = ("PreUp", "PostUp", "PreDown", "PostDown")
SAID = "/tmp/said"  # noqa: S108 - a jail's own
SEEN = "$(ifconfig -l | grep -cw %i) $(netstat -rn | grep -cw %i)"


def with_hooks(jail: Machine, *lines: str) -> None:
    jail.edit(("[Peer]", "\n".join([*lines, "", "[Peer]"])))


def noted(jail: Machine) -> list[str]:
    return jail.read(SAID).splitlines()


def test_order_and_what_is_there_when_they_run(jail: Machine) -> None:
    before = jail.shown()
    with_hooks(
        jail,
        *(f"{event} = echo {event} $WGSVC_EVENT $WGSVC_REASON {SEEN} >>{SAID}" for event in EVENTS),
        f"PostUp = echo again %i >>{SAID}",
    )
    jail.ok("--set", "hook_shell=/bin/sh", "start", TUNNEL)
    # The interface and no route of it; both; both; neither.
    assert noted(jail) == ["PreUp PreUp start 1 0", "PostUp PostUp start 1 2", "again wg0"]
    jail.ok("stop", TUNNEL)
    assert noted(jail)[3:] == ["PreDown PreDown stop 1 2", "PostDown PostDown stop 0 0"]
    jail.nothing_left(before)


def test_the_shell_is_bash_where_there_is_one_and_else_sh(jail: Machine) -> None:
    with_hooks(jail, f"PostUp = ps -o comm= -p $$ >{SAID}; true")
    jail.ok("start", TUNNEL)
    assert noted(jail) == ["bash" if shutil.which("bash") else "sh"]
    jail.ok("stop", TUNNEL)


def test_what_they_say_is_shown(jail: Machine) -> None:
    with_hooks(jail, "PostUp = echo to-stdout; echo to-stderr >&2")
    done = jail.ok("start", TUNNEL)
    assert "to-stdout\n" in done.errors
    assert "to-stderr\n" in done.errors
    jail.ok("stop", TUNNEL)


SHELLS = ["/bin/sh", *filter(None, [shutil.which("bash")])]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("snippet", ["false; true", "false | true", "true && false"])
def test_a_command_that_fails_is_no_success(jail: Machine, shell: str, snippet: str) -> None:
    """sh(1) has pipefail since 12.1."""
    before = jail.shown()
    with_hooks(jail, f"PreUp = {snippet}", f"PreUp = echo went on >>{SAID}")
    done = jail.wgsvc("--set", f"hook_shell={shell}", "start", TUNNEL)
    assert done.code == 71
    assert "PreUp exited with 1" in done.errors
    assert "pipefail" not in done.errors
    assert noted(jail) == []
    jail.nothing_left(before)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_that_may_fail_may_fail(jail: Machine, shell: str) -> None:
    with_hooks(jail, "PostUp = false || true; if false; then :; fi; ! true; false && true; true")
    jail.ok("--set", f"hook_shell={shell}", "start", TUNNEL)
    jail.ok("stop", TUNNEL)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_it_leaves_running_lives(jail: Machine, shell: str) -> None:
    count = "/tmp/count"  # noqa: S108 - a jail's own
    before = jail.shown()
    loop = f"while :; do echo x; echo >>{count}; sleep .05; done"
    with_hooks(jail, f"PostUp = {{ {loop}; }} & echo $! >{SAID}")

    def goes_on() -> None:
        seen = len(jail.read(count))
        eventually(lambda: len(jail.read(count)) > seen + 10, what="it goes on")

    jail.ok("--set", f"hook_shell={shell}", "start", TUNNEL)
    left = int(noted(jail)[0])
    goes_on()
    stop_process(jail.supervisor(), signal.SIGKILL)
    goes_on()
    jail.ok("stop", TUNNEL)
    goes_on()
    assert set(jail.processes()) - set(before["processes"]) >= {left}
    stop_process(left, signal.SIGKILL)
    jail.nothing_left(before)


@pytest.mark.parametrize("event", ["PreUp", "PostUp"])
def test_one_that_fails_rolls_the_start_back(jail: Machine, event: str) -> None:
    before = jail.shown()
    with_hooks(jail, f"{event} = exit 3", f"PostDown = echo $WGSVC_REASON >>{SAID}")
    done = jail.wgsvc("start", TUNNEL)
    assert done.code == 71
    assert event in done.errors
    assert jail.ifconfig() == ""
    jail.nothing_left(before)


def test_a_reload_says_which_differ_and_when_they_run(jail: Machine) -> None:
    with_hooks(jail, "PostUp = true")
    jail.ok("start", TUNNEL)
    jail.edit(("PostUp = true", "PostUp = true one more"))
    assert jail.ok("plan", TUNNEL).output == "# PostUp differs: it runs at the next start\n"
    said = jail.ok("reload", TUNNEL).errors
    assert "wg0: PostUp differs: it runs at the next start\n" in said
    assert "no change" in jail.ok("reload", TUNNEL).errors
    jail.ok("stop", TUNNEL)


@pytest.mark.parametrize("event", ["PreDown", "PostDown"])
def test_one_that_fails_at_stop_is_told_and_stops_nothing(jail: Machine, event: str) -> None:
    before = jail.shown()
    with_hooks(jail, f"{event} = exit 3")
    jail.ok("start", TUNNEL)
    done = jail.wgsvc("stop", TUNNEL)
    assert done.code != 0
    assert event in done.errors
    jail.nothing_left(before)


def test_one_that_hangs_is_ended_with_all_it_started(jail: Machine) -> None:
    before = jail.shown()
    with_hooks(jail, "PostUp = sleep 7001 & sleep 7002 | sleep 7003")
    done = jail.wgsvc("--set", "hook_timeout_s=2", "start", TUNNEL)
    assert done.code != 0
    assert "PostUp did not end within 2 s" in done.errors
    jail.nothing_left(before)  # no process either

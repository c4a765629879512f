"""rc.d/wireguard argument by argument, under a stand-in for rc.subr and a recording wgsvc."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(TREE, "rc.d", "wireguard")
SERVICE_PATH = "/sbin:/bin:/usr/sbin:/usr/bin"  # what service(8) leaves, 13.2


class Outcome(NamedTuple):
    """
    What a call of the script did: the calls of wgsvc, exit status, what was said.

    `taken_back` are the `--set KEY=` of the calls, which are not among `calls`: there is one for
    every setting that rc.conf does not have.
    """

    calls: list[list[str]]
    status: int
    output: str
    taken_back: list[str]


class Host:
    """A folder that stands for a host: rc.conf, the script, and a wgsvc that records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_dir = folder / "etc wireguard"  # with a blank, on purpose
        self.config_dir.mkdir()
        self.script = folder / "wireguard"
        with open(SCRIPT) as text:
            here = os.path.join(TREE, "tests", "rc", "rc.subr")
            self.script.write_text(text.read().replace("/etc/rc.subr", here))
        self.wgsvc = folder / "wgsvc"
        self.answer(0)

    def answer(self, status: int, *, then: str = "") -> None:
        """Let the recording wgsvc exit with `status`."""
        self.wgsvc.write_text(
            f"#!/bin/sh\n"
            f'for word; do printf "%s\\0" "$word"; done >>"{self.folder}/calls"\n'
            f'printf "\\n" >>"{self.folder}/calls"\n'
            f'env >"{self.folder}/environment"\n{then}\nexit {status}\n'
        )
        self.wgsvc.chmod(0o755)

    def run(self, *arguments: str, release: str = "13", **settings: str) -> Outcome:
        """Run the script the way service(8) does, with these variables in rc.conf."""
        settings = {"wireguard_enable": "YES", "wireguard_wgsvc": str(self.wgsvc), **settings}
        rc_conf = self.folder / "rc.conf"
        rc_conf.write_text("".join(f"{key}={_quoted(value)}\n" for key, value in settings.items()))
        environment = {
            "HOME": "/",
            "PATH": SERVICE_PATH,
            "RC_CONF": str(rc_conf),
            "RC_SUBR_RELEASE": release,
            "WGSVC_RUN_DIR": str(self.folder),
        }
        done = subprocess.run(
            [shutil.which("dash") or "/bin/sh", str(self.script), *arguments],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        recorded = self.folder / "calls"
        lines = recorded.read_text().split("\n")[:-1] if recorded.exists() else []
        recorded.unlink(missing_ok=True)
        calls = [line.split("\0")[:-1] for line in lines]
        taken_back = []
        for call in calls:
            at = 0
            while "--set" in call[at:]:
                at = call.index("--set", at)
                if call[at + 1].endswith("="):
                    taken_back.append(call[at + 1])
                    del call[at : at + 2]
                else:
                    at += 2
        return Outcome(calls, done.returncode, done.stdout + done.stderr, taken_back)

    def environment(self) -> dict[str, str]:
        """Return the environment that wgsvc was last called with."""
        lines = (self.folder / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("verb", ["start", "restart", "reload", "status"])
def test_verb_without_names_takes_the_listed_interfaces(host: Host, verb: str) -> None:
    outcome = host.run(verb, wireguard_interfaces="wg0 wg1\n\twg2 ")
    assert outcome.calls == [[verb, "wg0", "wg1", "wg2"]]
    assert outcome.status == 0


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "reload", "status"])
def test_verb_with_a_name_touches_that_one_only(host: Host, verb: str) -> None:
    assert host.run(verb, "wg1", wireguard_interfaces="wg0 wg1").calls == [[verb, "wg1"]]


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "reload", "status"])
def test_several_names(host: Host, verb: str) -> None:
    assert host.run(verb, "a=b", "x.y", "+-_").calls == [[verb, "a=b", "x.y", "+-_"]]


@pytest.mark.parametrize("listed", ["", "wg0", "all"])
def test_stop_without_names_stops_all_that_run(host: Host, listed: str) -> None:
    outcome = host.run("stop", wireguard_interfaces=listed)
    assert outcome.calls == [["stop", "all"]]


def test_restart_supervisor_replaces_the_daemon(host: Host) -> None:
    outcome = host.run("restart", "--supervisor", wireguard_interfaces="wg0")
    assert outcome.calls == [["daemon", "--replace"]]


def test_what_is_not_set_takes_back_what_was(host: Host) -> None:
    settings = {"wireguard_backend": "auto", "wireguard_wg0_fib": "1", "wireguard_routes": "off"}
    outcome = host.run("restart", wireguard_interfaces="wg0 wg1", **settings)
    assert outcome.taken_back == ["on_exit=", "wg0.backend=", "wg1.backend=", "wg1.fib="]
    assert host.run("restart", "--supervisor", wireguard_interfaces="wg0").taken_back == []


@pytest.mark.parametrize("verb", ["start", "restart", "reload", "status"])
@pytest.mark.parametrize("listed", ["", "  \n"])
def test_nothing_listed_says_how_to_list(host: Host, verb: str, listed: str) -> None:
    outcome = host.run(verb, wireguard_interfaces=listed)
    assert outcome.calls == []
    assert outcome.status == 1
    assert "no interface is configured" in outcome.output
    assert 'sysrc wireguard_interfaces="wg0 wg1"' in outcome.output


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (3, 1), (69, 1)])
@pytest.mark.parametrize("enable", ["YES", "NO"])
@pytest.mark.parametrize("release", ["13", "15"])
def test_status_exit_is_0_or_1_also_when_disabled(
    host: Host, code: int, expected: int, enable: str, release: str
) -> None:
    host.answer(code)
    outcome = host.run(
        "status", release=release, wireguard_enable=enable, wireguard_interfaces="wg0"
    )
    assert outcome.calls == [["status", "wg0"]]
    assert outcome.status == expected


@pytest.mark.parametrize("verb", ["start", "restart", "reload"])
def test_disabled_does_nothing(host: Host, verb: str) -> None:
    outcome = host.run(verb, wireguard_enable="NO", wireguard_interfaces="wg0")
    assert outcome.calls == []
    assert outcome.status == 0
    assert "wireguard_enable" in outcome.output
    forced = host.run("one" + verb, wireguard_enable="NO", wireguard_interfaces="wg0")
    assert forced.calls == [[verb, "wg0"]]


def test_disabled_still_stops_what_runs(host: Host) -> None:
    assert host.run("faststop", wireguard_enable="NO").calls == []
    import socket

    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(host.folder / "control.sock"))
        assert host.run("faststop", wireguard_enable="NO").calls == [["stop", "all"]]


def test_settings_go_before_the_verb(host: Host) -> None:
    outcome = host.run(
        "start",
        wireguard_interfaces="wg0 wg1",
        wireguard_config_dir=str(host.config_dir),
        wireguard_backend="auto",
        wireguard_on_exit="stop",
        wireguard_wg0_fib="1",
        wireguard_wg1_backend="kernel",
        wireguard_wg1_routes="10.0.0.0/8 2001:db8::/32",
        wireguard_wg2_fib="7",
    )
    assert outcome.calls == [
        [
            *("--config-dir", str(host.config_dir)),
            *("--set", "backend=auto", "--set", "on_exit=stop"),
            *("--set", "wg0.fib=1"),
            *("--set", "wg1.backend=kernel", "--set", "wg1.routes=10.0.0.0/8 2001:db8::/32"),
            *("start", "wg0", "wg1"),
        ]
    ]


def test_fib_and_routes_for_all_and_for_one(host: Host) -> None:
    outcome = host.run(
        "restart", "wg0", "wg1", wireguard_fib="1", wireguard_routes="off", wireguard_wg1_fib="2"
    )
    assert outcome.calls == [
        [
            *("--set", "wg0.fib=1", "--set", "wg0.routes=off"),
            *("--set", "wg1.fib=2", "--set", "wg1.routes=off"),
            *("restart", "wg0", "wg1"),
        ]
    ]


def test_settings_are_passed_as_they_stand(host: Host) -> None:
    value = "$(touch x) `touch y` \"q\" 'p' *"
    outcome = host.run("start", "wg0", wireguard_wg0_routes=value)
    assert outcome.calls == [["--set", f"wg0.routes={value}", "start", "wg0"]]
    assert not os.path.exists("/x")


def test_names_that_are_no_sh_identifiers(host: Host) -> None:
    outcome = host.run("start", "a-b.c", "=+", wireguard_a_b_c_fib="2", wireguard____fib="3")
    assert outcome.calls == [["--set", "a-b.c.fib=2", "--set", "=+.fib=3", "start", "a-b.c", "=+"]]


def test_all_takes_settings_of_every_file(host: Host) -> None:
    for name in ("wg0.conf", "b-1.conf", "not a name.conf", "wgsvc.toml"):
        (host.config_dir / name).touch()
    outcome = host.run(
        "start",
        wireguard_interfaces="all",
        wireguard_config_dir=str(host.config_dir),
        wireguard_b_1_backend="kernel",
        wireguard_wg0_fib="1",
    )
    assert outcome.calls == [
        [
            *("--config-dir", str(host.config_dir)),
            *("--set", "b-1.backend=kernel", "--set", "wg0.fib=1", "start", "all"),
        ]
    ]


def test_all_without_files(host: Host) -> None:
    outcome = host.run(
        "start", wireguard_interfaces="all", wireguard_config_dir=str(host.config_dir)
    )
    assert outcome.calls == [["--config-dir", str(host.config_dir), "start", "all"]]


@pytest.mark.parametrize("word", ["wg0;reboot", "$(id)", "a b", "../wg0", "*", "", "-v", "--json"])
def test_arguments_that_are_no_names_never_reach_eval(host: Host, word: str) -> None:
    outcome = host.run("start", word, wireguard_interfaces="")
    assert outcome.calls == []
    assert outcome.status in (1, 64)


@pytest.mark.parametrize("listed", ["wg0 *", "wg0;id", "$(id)"])
def test_lists_that_hold_no_names_are_refused(host: Host, listed: str) -> None:
    outcome = host.run("start", wireguard_interfaces=listed)
    assert outcome.calls == []
    assert outcome.status == 1
    assert "not names of interfaces" in outcome.output


def test_environment(host: Host) -> None:
    host.run("start", "wg0", wireguard_env="LOG_LEVEL=error HINT='a b'", wireguard_interfaces="wg0")
    environment = host.environment()
    assert environment["LOG_LEVEL"] == "error"
    assert environment["HINT"] == "a b"
    assert environment["PATH"] == SERVICE_PATH + ":/usr/local/sbin:/usr/local/bin"


def test_missing_program_is_named(host: Host) -> None:
    outcome = host.run("start", "wg0", wireguard_wgsvc="/nonexistent/wgsvc")
    assert outcome.status == 1
    assert "/nonexistent/wgsvc is not there" in outcome.output


def test_a_wgsvc_that_hangs_is_ended(host: Host) -> None:
    text = host.script.read_text()
    assert "wireguard_do 60 stop" in text
    host.script.write_text(text.replace("wireguard_do 60 stop", "wireguard_do 0.2 stop"))
    host.answer(0, then="exec sleep 60")
    outcome = host.run("stop")
    assert outcome.status == 1
    assert "not done within 0.2 seconds: wgsvc stop all" in outcome.output


def test_unknown_verb(host: Host) -> None:
    outcome = host.run("frobnicate")
    assert outcome.calls == []
    assert outcome.status == 1

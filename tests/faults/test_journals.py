"""B07: journals whose structure or values are wrong: each is its own tunnel's business alone."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rows import row
from tests.tunnels import RUN_DIR, Host, eventually

pytestmark = pytest.mark.root

BAD = RUN_DIR / "wg0.json.bad"
VERBS = pytest.mark.parametrize("verb", ["start", "stop"])
PARTLY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pins": lambda entry: {**entry, "pins": [[]]},
    "infinity": lambda entry: {**entry, "full_table": math.inf, "since": math.inf},
    "nesting": lambda entry: {**entry, "hooks": [[[["true"]]]], "rules": {"4": 1}},
    "pid": lambda entry: {**entry, "pid": "x", "kernel_name": 7},
}
"""What leaves enough to prove whose the interface is."""

WHOLLY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "text": lambda entry: {**entry, "ifindex": "7", "pid": "x"},
    "list": lambda entry: [entry],
    "version": lambda entry: {**entry, "schema": 99},
}
WRONG = PARTLY | WHOLLY


def spoil(how: str) -> None:
    """Write something wrong into wg0's journal."""
    path = RUN_DIR / "wg0.json"
    path.write_text(json.dumps(WRONG[how](json.loads(path.read_text()))))


def two_tunnels(host: Host) -> None:
    """Run wg0 and wg1, then lose the supervisor."""
    host.tunnel("wg0", "PostDown = touch /run/post-down")
    host.tunnel("wg1", number=2)
    host.ok("start", "wg0", "wg1")
    host.kill(host.supervisor())


@VERBS
@pytest.mark.parametrize("how", WRONG)
@row(
    "a journal with a list too few, Infinity, text for a number, wrong nesting, another version",
    "the other tunnel is adopted, started and stopped as ever; the file is set aside and reported",
)
def test_b07_another_tunnel(host: Host, how: str, verb: str) -> None:
    two_tunnels(host)
    pids = host.daemons("wg0"), host.daemons("wg1")
    spoil(how)

    host.ok(verb, "wg1")

    assert host.daemons("wg0") == pids[0]
    assert host.daemons("wg1") == (pids[1] if verb == "start" else [])
    assert "wg0: its journal can't be used" in host.log()
    assert "/var/run/wgsvc/wg0.json.bad" in host.log()
    assert "internal error" not in host.log()
    assert "/var/run/wgsvc/wg0.json.bad: what was noted" in host.wgsvc("doctor").out
    host.ok("stop", "wg0")
    assert not BAD.exists()


@pytest.mark.parametrize("how", PARTLY)
@row(
    "start of a tunnel in whose journal some fields are wrong, while its wireguard-go runs",
    "it is adopted by the others and by what the kernel shows, and noted anew",
)
def test_b07_start_of_what_can_be_proven(host: Host, how: str) -> None:
    two_tunnels(host)
    pid, before = host.daemon("wg0"), host.shown()
    spoil(how)

    assert "already running" in host.ok("start", "wg0").err

    assert (host.daemon("wg0"), host.shown()) == (pid, before)
    assert host.state("wg0")["state"] == "up"
    assert "no change" in host.ok("reload", "wg0").err
    assert json.loads((RUN_DIR / "wg0.json").read_text())["pid"] == pid
    host.kill(host.supervisor())
    assert "already running" in host.ok("start", "wg0").err
    host.ok("stop", "wg0")
    assert Path("/run/post-down").exists()
    assert "wg0" not in host.links()


@pytest.mark.parametrize("how", WHOLLY)
@row(
    "start of a tunnel whose journal proves nothing, while its wireguard-go runs",
    "refused, since it is up and may be anybody's, with what to type; restart has it anew",
)
def test_b07_start_of_what_can_not_be_proven(host: Host, how: str) -> None:
    two_tunnels(host)
    pid = host.daemon("wg0")
    spoil(how)

    refused = host.wgsvc("start", "wg0")

    assert refused.code == 73, refused.said
    assert "wgsvc/wg0.json.bad" in refused.err
    assert "wgsvc restart wg0" in refused.err
    assert host.daemon("wg0") == pid
    told = host.state("wg0")
    assert told["state"] == "unsupervised", told
    assert "wgsvc restart wg0" in told["reason"]
    host.ok("restart", "wg0")
    assert host.daemon("wg0") != pid
    assert host.state("wg0")["state"] == "up"
    assert not BAD.exists()


@pytest.mark.parametrize("how", WRONG)
@row(
    "stop of a tunnel whose journal is wrong, while its wireguard-go runs",
    "it is found by the kernel's state and taken down, with the hooks that can still be read",
)
def test_b07_stop(host: Host, how: str) -> None:
    two_tunnels(host)
    spoil(how)

    host.ok("stop", "wg0")

    assert host.daemons("wg0") == []
    assert "wg0" not in host.links()
    assert Path("/run/post-down").exists() == (how not in ("list", "version"))
    assert not BAD.exists()
    host.ok("stop", "wg1")
    host.untouched()


@VERBS
@row("the same after wireguard-go died too", "what is left goes; start begins anew")
def test_b07_nothing_runs(host: Host, verb: str) -> None:
    two_tunnels(host)
    host.kill(host.daemon("wg0"))
    eventually(lambda: "wg0" not in host.links())
    spoil("text")

    host.ok(verb, "wg0")

    assert len(host.daemons("wg0")) == (verb == "start")


@pytest.mark.parametrize("what", ["directory", "link", "owner"])
@row(
    "in the place of a journal there is a directory, a link, a file of somebody else",
    "set aside, not followed, not believed; start and stop succeed",
)
def test_b07_no_plain_file(host: Host, what: str, tmp_path: Path) -> None:
    host.tunnel()
    RUN_DIR.mkdir(0o750)
    path = RUN_DIR / "wg0.json"
    victim = tmp_path / "victim"
    victim.write_text("precious")
    if what == "directory":
        path.mkdir()
    elif what == "link":
        path.symlink_to(victim)
    else:
        path.write_text("{}")
        os.chown(path, 65534, 65534)

    host.ok("start", "wg0")

    assert victim.read_text() == "precious"
    assert "wg0: its journal can't be used" in host.log()
    if what == "directory":
        BAD.rmdir()

"""B01 to B06: what a boot, a cleaned /var/run or another version left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rows import row
from tests.tunnels import RUN_DIR, UAPI_DIR, Host, eventually, ip, some_public_key

pytestmark = pytest.mark.root
VERBS = pytest.mark.parametrize("verb", ["start", "stop"])


def entry_of_a_dead_tunnel(host: Host) -> dict[str, Any]:
    """Start wg0, kill all of it, and return what the journal says."""
    host.tunnel()
    host.ok("start", "wg0")
    entry: dict[str, Any] = json.loads((RUN_DIR / "wg0.json").read_text())
    os.kill(host.supervisor(), signal.SIGKILL)
    host.kill(host.daemon())
    return entry


@VERBS
@row("journal of another boot, a stale socket, no process", "ignored; start and stop succeed")
def test_b01_reboot(host: Host, verb: str) -> None:
    entry = entry_of_a_dead_tunnel(host)
    (RUN_DIR / "wg0.json").write_text(json.dumps({**entry, "boot_id": "0", "pid": 1}))
    assert (UAPI_DIR / "wg0.sock").exists()

    host.ok(verb, "wg0")


@VERBS
@row("files of /var/run/wgsvc removed, folders kept, as cleanvar does it", "start and stop succeed")
def test_b02_cleanvar_at_boot(host: Host, verb: str) -> None:
    entry_of_a_dead_tunnel(host)
    for folder in (RUN_DIR, UAPI_DIR):
        for path in folder.iterdir():
            path.unlink()

    host.ok(verb, "wg0")


@row(
    "the whole of /var/run/wgsvc removed under a running tunnel, supervisor killed",
    "stop finds it by its socket",
)
def test_b02_emptied_under_a_running_tunnel(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    host.kill(host.supervisor())
    shutil.rmtree(RUN_DIR)

    host.ok("stop", "wg0")

    host.untouched()


@row(
    "/var/run/wgsvc becomes a link to somewhere else while a tunnel runs",
    "nothing is written through it by the next supervisor",
)
def test_b03_run_dir_becomes_a_link(host: Host, tmp_path: Path) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    host.kill(host.supervisor())
    RUN_DIR.rename("/run/kept")
    RUN_DIR.symlink_to(tmp_path)

    refused = host.wgsvc("start", "wg0")

    assert refused.code == 77, refused.said
    assert list(tmp_path.iterdir()) == []
    RUN_DIR.unlink()
    Path("/run/kept").rename(RUN_DIR)


@VERBS
@row(
    "a journal of ours whose interface is by now another one of the same name",
    "that one is foreign: refused, untouched",
)
def test_b04_name_reused_by_a_foreigner(host: Host, verb: str) -> None:
    entry_of_a_dead_tunnel(host)
    eventually(lambda: host.links() == {"lo"})
    ip("tuntap", "add", "dev", "wg0", "mode", "tun")
    ip("address", "add", "10.99.0.1/24", "dev", "wg0")
    there = host.shown()

    result = host.wgsvc(verb, "wg0")

    assert result.code == (73 if verb == "start" else 0), result.said
    assert host.shown() == there
    ip("link", "delete", "wg0")


@row(
    "boot without DNS and without a default route",
    "up within `resolve_timeout_s`, endpoints by name are `unresolved`",
)
def test_b05_boot_without_dns(host: Host) -> None:
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 192.168.7.0/24\n"
        "Endpoint = vpn.example.invalid:51820\n"
    )
    host.options = ["--set", "resolve_timeout_s=1"]
    host.tunnel("wg0", peer=peer)

    began = host.ok("start", "wg0")

    assert began.took_s < 3
    (told,) = host.state()["peers"]
    assert told["unresolved"]


@VERBS
@pytest.mark.parametrize("schema", [0, 2, 99])
@row(
    "a journal of an earlier and of a later version beside a running tunnel",
    "the tunnel is found by what runs; start and stop succeed or say why",
)
def test_b06_another_version(host: Host, schema: int, verb: str) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    host.kill(host.supervisor())
    journal = RUN_DIR / "wg0.json"
    entry = json.loads(journal.read_text())
    journal.write_text(json.dumps({**entry, "schema": schema, "news": [1, 2, 3]}))

    result = host.wgsvc(verb, "wg0")

    if verb == "stop":
        assert result.code == 0, result.said
        host.untouched()
    else:
        assert result.code in (0, 73), result.said
        assert "wg0" in host.links()
        host.ok("stop", "wg0")
        host.untouched()


@row("a socket of a dead wireguard-go is left and nothing else", "start takes it away and succeeds")
def test_b01_only_a_stale_socket(host: Host) -> None:
    UAPI_DIR.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(UAPI_DIR / "wg0.sock"))
    host.tunnel()

    host.ok("start", "wg0")

    assert host.state()["state"] == "up"

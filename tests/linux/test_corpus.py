"""
Configuration files as providers, routers, generators and people write them, beside wg-quick.

Each file of tests/corpus is started, pinged through, reloaded and stopped by wgsvc, then brought
up, pinged through and taken down by wg-quick, in the same namespaces. What both made must be
the same, apart from what DIFFERENT says and why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.linux.corpus import FILES, PINGED, Sample, read
from tests.linux.far_side import NAME_SERVER, FarSide, far_side, resolve_by
from tests.tunnels import CONFIG_DIR, Host, eventually

pytestmark = pytest.mark.root

WITHOUT_WG_QUICK = {
    "hooks-hash": "wg-quick cuts a hook at the first #, also between quotes; bash then finds no "
    "end of the quotes and the start fails",
}
"""Files that wg-quick cannot bring up, and why."""

DIFFERENT: dict[str, dict[str, tuple[Any, Any, str]]] = {
    "dns-domain": {
        "resolv.conf": (
            ["search corp.example", f"nameserver {NAME_SERVER}"],
            [f"nameserver {NAME_SERVER}"],
            "a search domain without servers is added to what there is; wg-quick passes over it",
        ),
    },
    "two-ways": {
        "mtu": (1320, 1420, "the smallest way counts; wg-quick takes the largest"),
    },
}
"""What is not the same on purpose: wgsvc's value, wg-quick's, the reason."""

SYSCTLS = {"src_valid_mark": "0", "rp_filter": "0"}
"""The kernel's defaults: a namespace begins with what the machine has."""


@pytest.fixture(name="far")
def _far(own_network: None) -> Iterator[FarSide]:  # noqa: ARG001 - it is where we are
    with far_side() as far:
        resolve_by(NAME_SERVER)
        for name, value in SYSCTLS.items():
            Path("/proc/sys/net/ipv4/conf/all", name).write_text(value)
        yield far


@pytest.fixture(name="client")
def _client(far: FarSide) -> Iterator[Host]:  # noqa: ARG001 - its other end
    host = Host()
    try:
        yield host
    finally:
        host.close()


def test_there_is_a_corpus() -> None:
    assert len(FILES) >= 44
    assert FILES.keys() >= PINGED.keys() | WITHOUT_WG_QUICK.keys() | DIFFERENT.keys()


def test_check_takes_every_file(client: Host) -> None:
    names = [name for name in FILES if _missing(name) in ("", "iptables")]
    for name in names:
        client.write(name, FILES[name].read_bytes().decode())

    result = client.wgsvc("check", *names)

    assert result.code == 0, result.said
    assert [name for name in names if f"{name}: ok" not in result.out] == []
    client.untouched()


@pytest.mark.parametrize("name", FILES)
def test_it_runs_as_with_wg_quick(name: str, client: Host, far: FarSide) -> None:
    missing = _missing(name)
    if missing:
        pytest.skip(f"needs {missing}")
    file = read(FILES[name])
    ours = by_wgsvc(file, client, far)
    if name in WITHOUT_WG_QUICK:
        assert wg_quick("up", name).returncode != 0
        return
    theirs = by_wg_quick(file, client, far)

    found = {
        what: (ours.get(what), theirs.get(what))
        for what in sorted(ours.keys() | theirs.keys())
        if ours.get(what) != theirs.get(what)
    }
    expected = {what: tuple(values) for what, (*values, _) in DIFFERENT.get(name, {}).items()}
    lines = [f"{what}:\n  wgsvc    {us}\n  wg-quick {them}" for what, (us, them) in found.items()]
    assert found == expected, "\n".join(lines)


@pytest.mark.parametrize("name", ["pia-swiss", "se-sto-wg-017"])
def test_a_full_tunnel_under_the_strict_reverse_path_filter(
    name: str, client: Host, far: FarSide
) -> None:
    """The server's packets come in by eth0, while its address without a mark leads elsewhere."""
    for interface in ("all", "eth0"):
        Path(f"/proc/sys/net/ipv4/conf/{interface}/rp_filter").write_text("1")
    file = read(FILES[name])

    by_wgsvc(file, client, far)

    by_wg_quick(file, client, far)


def by_wgsvc(file: Sample, client: Host, far: FarSide) -> dict[str, Any]:
    """Start, ping, reload, ping and stop it; return what was seen meanwhile."""
    before = _left(client)
    path = client.write(file.name, file.text)
    file.serve(far)
    client.ok("start", file.name)
    file.ping(far)
    status = client.status(file.name)
    assert status["exit"] == 0, status
    seen = file.seen()

    assert "no change" in client.ok("reload", file.name).said

    file.ping(far)
    assert file.seen() == seen
    client.ok("stop", file.name)
    client.untouched()
    assert _left(client) == before
    assert path.read_bytes().decode() == file.text, "the file was changed"
    return seen


def by_wg_quick(file: Sample, client: Host, far: FarSide) -> dict[str, Any]:
    """Bring it up, ping and take it down; return what was seen meanwhile."""
    path = CONFIG_DIR / f"{file.name}.conf"
    path.write_bytes(file.text.encode())
    file.serve(far)
    up = wg_quick("up", file.name)
    assert up.returncode == 0, up.stderr
    file.ping(far)
    seen = file.seen()
    down = wg_quick("down", file.name)
    assert down.returncode == 0, down.stderr
    assert file.name not in client.links()
    eventually(lambda: not client.strangers(), what="wg-quick's wireguard-go has ended")
    return seen


def wg_quick(verb: str, name: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with wireguard-go where the kernel has no WireGuard."""
    return subprocess.run(
        ["wg-quick", verb, name],
        env={**os.environ, "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )


def _missing(name: str) -> str:
    """Make ready what a file needs beside the far side; return what of it cannot be had, or ""."""
    if name.startswith("ipt-") and not shutil.which("iptables"):
        return "iptables"
    if name == "table-name":
        tables = Path("/etc/iproute2/rt_tables.d")
        if not tables.is_dir():
            return str(tables)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tables)], check=True)
        (tables / "corpus.conf").write_text("200 vpn\n")
    return ""


def _left(client: Host) -> tuple[Any, ...]:
    """Return what a tunnel may leave behind beside what Host.shown() has."""
    ruleset = subprocess.run(
        ["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout
    rules = [entry["rule"] for entry in json.loads(ruleset)["nftables"] if "rule" in entry]
    return rules, Path("/etc/resolv.conf").read_text(), client.run_dir() - {"wgsvc.pid"}

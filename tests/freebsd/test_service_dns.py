"""DNS of a tunnel through the base system's resolvconf(8), in a jail with an /etc of its own."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import TUNNEL, stop_process, why_no_jails

if TYPE_CHECKING:
    from tests.freebsd.machines import Machine

LACKING = why_no_jails() or ("" if os.path.exists("/sbin/resolvconf") else "needs resolvconf(8)")
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(LACKING), reason=LACKING)]

OTHER = "nameserver 198.51.100.1"


def servers(jail: Machine) -> list[str]:
    """Return what a resolver reads of resolv.conf(5)."""
    lines = jail.read("/etc/resolv.conf").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def with_dns(jail: Machine, value: str) -> None:
    jail.edit(("[Peer]", f"DNS = {value}\n\n[Peer]"))


@pytest.fixture(name="resolving")
def _resolving(site: Machine) -> Machine:
    """Give a jail whose resolver knows one server, of the interface `uplink`."""
    done = site.run("resolvconf", "-a", "uplink", text=f"{OTHER}\n")
    assert done.code == 0, done.errors
    assert servers(site) == [OTHER]
    return site


def test_there_while_up_and_gone_after_stop(resolving: Machine) -> None:
    before = resolving.shown()
    with_dns(resolving, "192.0.2.53, fd00::53, corp.example")
    resolving.ok("start", TUNNEL)
    assert servers(resolving) == [
        "search corp.example", "nameserver 192.0.2.53", "nameserver fd00::53"
    ]  # fmt: skip
    resolving.ok("stop", TUNNEL)
    assert servers(resolving) == [OTHER]
    resolving.nothing_left(before)


def test_reload_changes_them(resolving: Machine) -> None:
    resolving.ok("start", TUNNEL)
    assert servers(resolving) == [OTHER]
    with_dns(resolving, "192.0.2.53")
    assert "+ printf" in resolving.ok("plan", TUNNEL).output
    resolving.ok("reload", TUNNEL)
    assert servers(resolving) == ["nameserver 192.0.2.53"]
    resolving.edit(("192.0.2.53", "192.0.2.54"))
    resolving.ok("reload", TUNNEL)
    assert servers(resolving) == ["nameserver 192.0.2.54"]
    resolving.edit(("DNS = 192.0.2.54\n", ""))
    resolving.ok("reload", TUNNEL)
    assert servers(resolving) == [OTHER]
    resolving.ok("stop", TUNNEL)


def test_search_domains_alone_take_no_server_away(resolving: Machine) -> None:
    with_dns(resolving, "corp.example")
    resolving.ok("start", TUNNEL)
    assert servers(resolving) == ["search corp.example", OTHER]
    resolving.edit(("DNS = corp.example", "DNS = 192.0.2.53, corp.example"))
    resolving.ok("reload", TUNNEL)
    assert servers(resolving) == ["search corp.example", "nameserver 192.0.2.53"]
    resolving.edit(("DNS = 192.0.2.53, corp.example", "DNS = corp.example"))
    resolving.ok("reload", TUNNEL)
    assert servers(resolving) == ["search corp.example", OTHER]
    resolving.ok("stop", TUNNEL)
    assert servers(resolving) == [OTHER]


def test_first_of_those_with_a_metric(resolving: Machine) -> None:
    resolving.run("resolvconf", "-a", "uplink", "-m", "100", text=f"{OTHER}\n")
    with_dns(resolving, "192.0.2.53")
    resolving.ok("--set", "dns_mode=metric", "start", TUNNEL)
    assert servers(resolving) == ["nameserver 192.0.2.53", OTHER]
    resolving.ok("stop", TUNNEL)
    assert servers(resolving) == [OTHER]


def test_after_a_crash_of_everything_stop_takes_them_back(resolving: Machine) -> None:
    before = resolving.shown()
    with_dns(resolving, "192.0.2.53")
    resolving.ok("start", TUNNEL)
    for pid in (resolving.supervisor(), resolving.daemon()):
        stop_process(pid, signal.SIGKILL)
    assert servers(resolving) == ["nameserver 192.0.2.53"]
    resolving.ok("stop", TUNNEL)
    assert servers(resolving) == [OTHER]
    resolving.nothing_left(before)


def test_a_resolvconf_that_is_switched_off_is_an_error(resolving: Machine) -> None:
    before = resolving.shown()
    with_dns(resolving, "192.0.2.53")
    resolving.put("/etc/resolvconf.conf", 'resolvconf="NO"\n', 0o644)
    done = resolving.wgsvc("start", TUNNEL)
    assert done.code == 69
    assert "resolvconf=NO" in done.errors
    resolving.nothing_left(before)
    assert servers(resolving) == [OTHER]

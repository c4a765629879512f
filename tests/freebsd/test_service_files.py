"""Files as people have them, through the service of a FreeBSD jail: one wrong, one passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import HOST_FILE, TUNNEL, service, set_rc, why_no_jails

if TYPE_CHECKING:
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]


def test_one_bad_file_keeps_no_other_tunnel_down(site: Machine) -> None:
    """At boot, when no supervisor runs yet: a typo must not lock the administrator out."""
    before = site.shown()
    site.write(HOST_FILE.replace("198.18.7.1/24", "198.18.7.1/240"), "wg1")
    set_rc(site, wireguard_enable="YES", wireguard_interfaces="wg1 wg0")
    done = service(site, "start")
    assert done.code == 1, done.errors  # what service(8) makes of 78
    assert '"198.18.7.1/240"' in done.errors
    assert site.state()["state"] == "up"
    assert "wg1" not in site.interfaces()
    assert service(site, "stop").code == 0
    site.nothing_left(before)


def test_what_is_passed_over_for_its_name_is_told(site: Machine) -> None:
    for name in ("bad name", "averyveryverylongname", "tun3"):
        site.write(HOST_FILE, name)
    told = site.wgsvc("check").output
    started = site.ok("start", "all")
    for name in ("bad name", "averyveryverylongname", "tun3"):
        assert f"{site.config_dir}/{name}.conf" in told
        assert f"{site.config_dir}/{name}.conf" in started.errors
    site.ok("stop", "all")


def test_a_table_s_name_is_no_fib(site: Machine) -> None:
    site.edit(("[Peer]", "Table = main\n\n[Peer]"))
    done = site.wgsvc("start", TUNNEL)
    assert done.code == 78
    assert "FIB" in done.errors
    assert TUNNEL not in site.interfaces()


def test_a_private_key_as_a_peer_s_is_refused(site: Machine) -> None:
    text = site.read(f"{site.config_dir}/{TUNNEL}.conf")
    key = text.partition("PrivateKey = ")[2].split()[0]
    site.write(text.replace("l/bRgqGEAzNtVq9JI3GyYnhFgCRXLNpakPxemH3mrA8=", key))
    done = site.wgsvc("start", TUNNEL)
    assert done.code == 78
    assert "private key" in done.errors
    assert key not in done.errors

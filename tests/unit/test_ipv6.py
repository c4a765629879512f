"""Whether there is IPv6, as each system tells."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.contract.world import prefix
from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_vnet import Machine
from wgsvc.errors import NotPermittedError, OSFailureError
from wgsvc.system.freebsd.system import FreeBSD
from wgsvc.system.linux import ipv6, netlink
from wgsvc.values import Route

UNKNOWN_FAMILY = 45  # no kernel has this many


@pytest.fixture(name="conf")
def _conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the files of a host where it is on."""
    for name in ("all", "default", "wg0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "disable_ipv6").write_text("0\n")
    monkeypatch.setattr(ipv6, "FOLDER", str(tmp_path))
    return tmp_path


def test_an_interface_to_come_gets_what_default_says(conf: Path) -> None:
    assert ipv6.without() is None
    (conf / "all" / "disable_ipv6").write_text("1\n")
    assert ipv6.without() is None  # `all` is copied when it is set, and read by nobody
    (conf / "default" / "disable_ipv6").write_text("1\n")

    found = ipv6.without()

    assert found is not None
    assert "net.ipv6.conf.all.disable_ipv6 = 1" in found.message
    assert "net.ipv6.conf.default.disable_ipv6=0" in found.cure
    (conf / "all" / "disable_ipv6").write_text("0\n")
    found = ipv6.without("wg1")  # not there
    assert found is not None
    assert "net.ipv6.conf.default.disable_ipv6 = 1" in found.message


def test_an_interface_that_is_there_has_its_own(conf: Path) -> None:
    (conf / "default" / "disable_ipv6").write_text("1\n")
    assert ipv6.without("wg0") is None
    (conf / "wg0" / "disable_ipv6").write_text("1\n")

    found = ipv6.without("wg0")

    assert found is not None
    assert "net.ipv6.conf.wg0.disable_ipv6 = 1" in found.message
    assert found.cure == "sysctl -w net/ipv6/conf/wg0/disable_ipv6=0"


def test_a_kernel_without_it(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipv6, "FOLDER", str(conf / "nothing"))
    assert ipv6.without() is None  # hidden, but there
    monkeypatch.setattr(socket, "AF_INET6", UNKNOWN_FAMILY)

    found = ipv6.without("wg0")

    assert found is not None
    assert "ipv6.disable=1" in found.message


def test_freebsd_without_inet6() -> None:
    machine = Machine(FLAVOURS["13.2"])
    system = FreeBSD(ModelKernel(machine.jail("one")))
    assert system.without_ipv6() is None
    machine.has_inet6 = False

    tun = system.create_tun("wg0")  # has no link-local address to be kept from

    assert system.without_ipv6() is not None
    system.add_addresses("wg0", [prefix("192.0.2.1/24")])
    with pytest.raises(OSFailureError) as refused:
        system.add_addresses("wg0", [prefix("fd00::1/64")])
    assert refused.value.errno == errno.EAFNOSUPPORT
    (failure,) = system.add_routes([Route(prefix("fd00:1::/64"), ifindex=tun.ifindex)])
    assert failure.errno == errno.EAFNOSUPPORT
    os.close(tun.fd)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux")
def test_root_is_not_told_to_be_root() -> None:
    """`EACCES` is what the kernel says of IPv6 that is off; a right that lacks is `EPERM`."""
    told = netlink.failure("RTM_NEWADDR", "wg0 fd00::1/64", errno.EACCES)

    assert isinstance(told, OSFailureError)
    assert isinstance(netlink.failure("RTM_NEWADDR", "wg0", errno.EPERM), NotPermittedError)

"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC_PRIVATE = 0x4000 | 0x40000


def why_not_root() -> str:
    """Say why tests that touch a network can't run here, "" if they can."""
    if os.geteuid() != 0:
        return "needs root"
    if sys.platform == "linux" and not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `root` where it can't run, and say why."""
    reason = why_not_root()
    if reason:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason=reason))


def enter_fresh_namespaces() -> None:
    """
    Move this process into network and mount namespaces of its own (Linux).

    With an empty /run, so that sockets, locks and journals of a test are its own, and
    empty configuration folders. What the test leaves there goes with the namespace's last process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "mount --make-rprivate /")
    for target in ("/run", "/etc/wireguard", "/usr/local/etc"):
        if libc.mount(b"tmpfs", target.encode(), b"tmpfs", 0, b"mode=0755") != 0:
            raise OSError(ctypes.get_errno(), f"mount tmpfs {target}")
    os.mkdir("/usr/local/etc/wireguard")
    if os.path.exists("/etc/resolv.conf"):
        # The machine's own resolver: a tunnel with DNS servers must not reach it from here.
        shutil.copy("/etc/resolv.conf", "/run/machine-resolv.conf")
        subprocess.run(
            ["mount", "--bind", "/run/machine-resolv.conf", "/etc/resolv.conf"], check=True
        )
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture(name="own_network")
def _own_network() -> Iterator[None]:
    """Give the test a network stack and a /run of its own. Linux only; use with mark `root`."""
    if sys.platform != "linux":
        pytest.skip("namespaces are Linux's; FreeBSD runs this in a VNET jail")
    home = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    cwd = os.getcwd()
    enter_fresh_namespaces()
    try:
        yield
    finally:
        libc = ctypes.CDLL(None, use_errno=True)
        for descriptor, flag in zip(home, (CLONE_NEWNET, CLONE_NEWNS), strict=True):
            libc.setns(descriptor, flag)
            os.close(descriptor)
        os.chdir(cwd)

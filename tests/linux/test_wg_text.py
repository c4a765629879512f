"""
The kernel back end's way through wg(8), beside the UAPI's, on the same real devices.

wg(8) speaks to wireguard-go too: whatever is set one way must read the same both ways.
"""

from __future__ import annotations

import contextlib
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tests.contract.world import prefix
from tests.linux.test_system_tun import PROGRAMS, wireguard_go
from wgsvc.errors import OSFailureError, ProgramFailedError
from wgsvc.loop import Loop
from wgsvc.settings import Settings
from wgsvc.supervise import kernel_wg
from wgsvc.supervise import wireguard_go as uapi
from wgsvc.supervise.process import Children
from wgsvc.system.linux.system import Linux
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange
from wgsvc.values import Endpoint, SecretKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.supervise.context import Context
    from wgsvc.uapi.parse import DeviceState

pytestmark = pytest.mark.root

BY_WG, BY_UAPI = "wgtxt0", "wgtxt1"
KEYS = [bytes([number]) * 31 + b"\x40" for number in range(1, 6)]
SECRET = SecretKey(b"\x08" + b"\x77" * 30 + b"\x47")
OTHER_SECRET = SecretKey(b"\x10" + b"\x66" * 30 + b"\x46")
NET = prefix("10.2.0.0/16")
PRESHARED = SecretKey(b"\x55" * 32)

WHOLE = DeviceChange(
    private_key=SECRET,
    fwmark=0xCA6C,
    replace_peers=True,
    peers=(
        PeerChange(
            KEYS[0],
            preshared_key=PRESHARED,
            endpoint=Endpoint("2001:db8::9", 51820),
            keepalive_s=25,
            replace_allowed_ips=True,
            allowed_ips=(prefix("10.1.0.0/16"), prefix("fd00:1::/64")),
        ),
        PeerChange(KEYS[1], endpoint=Endpoint("192.0.2.7", 7), allowed_ips=(NET,)),
        PeerChange(KEYS[2]),
    ),
)  # fmt: skip

CHANGES = {
    "allowed-ip-added": PeerChange(
        KEYS[1], update_only=True, allowed_ips=(prefix("10.3.0.0/16"), prefix("::/0"))
    ),
    "allowed-ips-replaced": PeerChange(
        KEYS[0], update_only=True, replace_allowed_ips=True, allowed_ips=(prefix("10.9.0.0/16"),)
    ),
    "allowed-ip-moved": PeerChange(
        KEYS[2], update_only=True, allowed_ips=(prefix("10.2.0.0/16"), prefix("fd00:1::/64"))
    ),
    "all-allowed-ips-gone": PeerChange(KEYS[1], update_only=True, replace_allowed_ips=True),
    "preshared-key-set": PeerChange(KEYS[1], update_only=True, preshared_key=PRESHARED),
    "preshared-key-cleared": PeerChange(KEYS[0], update_only=True, preshared_key=NO_KEY),
    "endpoint": PeerChange(KEYS[0], update_only=True, endpoint=Endpoint("198.51.100.1", 1)),
    "keepalive-off": PeerChange(KEYS[0], update_only=True, keepalive_s=0),
    "peer-new": PeerChange(KEYS[3], allowed_ips=(prefix("10.4.0.1/32"),), keepalive_s=5),
    "peer-unknown": PeerChange(KEYS[4], update_only=True, allowed_ips=(prefix("10.1.0.0/16"),)),
    "peer-removed": PeerChange(KEYS[0], remove=True),
}


@pytest.fixture(name="context")
def _context(own_network: None) -> Iterator[Context]:  # noqa: ARG001 - it is where we are
    loop = Loop()
    children = Children(loop, Linux())

    async def reap() -> None:
        while True:
            children.reap()
            await loop.sleep(0.002)

    loop.spawn(reap())
    settings = Settings(step_timeout_s=5.0)
    yield cast("Context", SimpleNamespace(loop=loop, children=children, settings=settings))
    children._wake.close()
    children._bell.close()
    loop.close()


@pytest.fixture(name="devices")
def _devices(context: Context) -> Iterator[None]:
    """Have two devices with the same configuration, each set its own way."""
    system = Linux()
    with contextlib.ExitStack() as stack:
        for name in (BY_WG, BY_UAPI):
            tun = system.create_tun(name)
            stack.callback(os.close, tun.fd)
            stack.enter_context(wireguard_go(PROGRAMS[0], tun))
        by_both(context, WHOLE)
        yield


def by_both(context: Context, change: DeviceChange) -> None:
    async def do() -> None:
        now = None if change.replace_peers else await kernel_wg.get(context, BY_WG)
        await kernel_wg.configure(context, BY_WG, change, now)
        await uapi.configure(context, BY_UAPI, change)

    context.loop.run(do())


def seen(context: Context, name: str, *, by_wg: bool) -> DeviceState:
    """Return a device's state, peers and AllowedIPs sorted: neither has an order."""
    state = context.loop.run(kernel_wg.get(context, name) if by_wg else uapi.get(context, name))
    peers = [peer._replace(allowed_ips=tuple(sorted(peer.allowed_ips))) for peer in state.peers]
    return state._replace(peers=tuple(sorted(peers)), texts=(), listen_port=0)


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_set_and_read_alike(context: Context, change: PeerChange) -> None:
    by_both(context, DeviceChange(peers=(change,)))
    wanted = seen(context, BY_UAPI, by_wg=False)
    assert seen(context, BY_WG, by_wg=True) == wanted
    assert seen(context, BY_WG, by_wg=False) == wanted
    assert seen(context, BY_UAPI, by_wg=True) == wanted
    assert wanted.private_key == SECRET
    assert wanted.fwmark == 0xCA6C


@pytest.mark.usefixtures("devices")
def test_a_single_allowed_ip_is_dropped(context: Context) -> None:
    dropped = PeerChange(KEYS[0], update_only=True, dropped_ips=(prefix("10.1.0.0/16"),))

    async def do() -> None:
        now = await kernel_wg.get(context, BY_WG)
        await kernel_wg.configure(context, BY_WG, DeviceChange(peers=(dropped,)), now)

    context.loop.run(do())
    after = {peer.public_key: peer for peer in seen(context, BY_WG, by_wg=True).peers}
    assert after[KEYS[0]].allowed_ips == (prefix("fd00:1::/64"),)
    assert after[KEYS[0]].preshared_key == PRESHARED
    assert after[KEYS[1]].allowed_ips == (prefix("10.2.0.0/16"),)


@pytest.mark.usefixtures("devices")
def test_the_device_alone(context: Context) -> None:
    by_both(context, DeviceChange(private_key=OTHER_SECRET, fwmark=0))
    state = seen(context, BY_WG, by_wg=True)
    assert state == seen(context, BY_UAPI, by_wg=False)
    assert (state.private_key, state.fwmark, len(state.peers)) == (OTHER_SECRET, 0, 3)


@pytest.mark.usefixtures("devices")
def test_thousands_of_peers_come_and_go(context: Context) -> None:
    keys = [bytes([99, n >> 8, n & 255]) * 10 + b"\x01\x40" for n in range(1, 1501)]
    by_both(context, DeviceChange(peers=tuple(PeerChange(key) for key in keys)))
    assert len(seen(context, BY_WG, by_wg=True).peers) == 1503
    by_both(context, DeviceChange(peers=tuple(PeerChange(key, remove=True) for key in keys)))
    assert len(seen(context, BY_WG, by_wg=True).peers) == 3


@pytest.mark.usefixtures("devices")
def test_a_refusal_has_its_errno(context: Context) -> None:
    Linux().set_mtu(BY_WG, 1420)
    Linux().set_up(BY_WG)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - as wireguard-go binds
        change = DeviceChange(listen_port=taken.getsockname()[1])
        with pytest.raises(OSFailureError) as caught:
            context.loop.run(kernel_wg.configure(context, BY_WG, change, None))
    assert caught.value.message == f"wg addconf {BY_WG}: Address already in use (EADDRINUSE)"


def test_no_such_interface(context: Context) -> None:
    # Without the kernel's WireGuard nobody is there to say that there is no such device.
    with pytest.raises(OSFailureError, match=r"wg show wgtxt9: (No such dev|Protocol not sup)"):
        context.loop.run(kernel_wg.get(context, "wgtxt9"))


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("PrivateKey = SECRETSECRETSECRET", "Key is not the correct length or format"),
        ("SecretKey = SECRETSECRETSECRET", "Line unrecognized"),
        ("ListenPort = SECRET", ""),
    ],
)
def test_wg_says_why_but_not_what_it_quotes(context: Context, line: str, why: str) -> None:
    with pytest.raises(ProgramFailedError) as caught:
        context.loop.run(
            kernel_wg.run(context, ["wg", "addconf", BY_WG, "/dev/stdin"], f"[Interface]\n{line}\n")
        )
    began = f"wg addconf {BY_WG} /dev/stdin exited with 1: {why}"
    assert caught.value.message.startswith(began)
    assert caught.value.message.endswith("Configuration parsing error")
    assert "SECRET" not in caught.value.message

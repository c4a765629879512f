"""A checked file goes from the command to the daemon as it is."""

from __future__ import annotations

import socket

import pytest

from wgsvc.config.model import Hooks, Peer, Tunnel
from wgsvc.supervise import handover
from wgsvc.values import Endpoint, Prefix, SecretKey

FULL = Tunnel(
    name="wg0",
    private_key=SecretKey(bytes(range(32))),
    listen_port=51820,
    fwmark=0,
    addresses=(Prefix(4, 0xC0A8DE01, 24), Prefix(6, 1 << 125, 64)),
    dns_servers=("192.0.2.53",),
    dns_search=("example.org",),
    mtu=1380,
    table=5,
    save_config=True,
    hooks=Hooks(pre_up=("echo '%i'",), post_down=("true", "false")),
    peers=(
        Peer(
            bytes(32),
            SecretKey(bytes([7] * 32)),
            Endpoint("fe80::1%em0", 51820),
            25,
            (Prefix(4, 0x0A000000, 8), Prefix(6, 0, 0)),
            "vpnr2",
            (Prefix(4, 0x0A000000, 9),),
            7,
        ),
        Peer(bytes([1] * 32)),
    ),
    path="/etc/wireguard/wg0.conf",
    digest="ab" * 32,
    private_key_file="key",
    routes=(),
    overridden=True,
)


def through_a_socket(*tunnels: Tunnel) -> dict[str, Tunnel] | None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        handover.send(ours, {tunnel.name: tunnel for tunnel in tunnels})
        return handover.receive(theirs)


def test_every_field_arrives_as_what_it_is() -> None:
    assert all(a != b for a, b in zip(FULL[1:], Tunnel("x")[1:], strict=True)), "set every field"

    found = through_a_socket(FULL, Tunnel("wg1"))

    assert found == {"wg0": FULL, "wg1": Tunnel("wg1")}
    arrived = found["wg0"]
    assert isinstance(arrived.private_key, SecretKey)
    assert isinstance(arrived.hooks, Hooks)
    assert isinstance(arrived.addresses[0], Prefix)
    assert isinstance(arrived.peers[0].preshared_key, SecretKey)
    assert isinstance(arrived.peers[0].endpoint, Endpoint)
    assert isinstance(arrived.peers[0].allowed_ips[0], Prefix)


def test_no_files_are_not_a_hang_up() -> None:
    assert through_a_socket() == {}


@pytest.mark.parametrize("sent", [b"", b"\0\0\0", b"\0\0\0\0\0\0\0\7half"])
def test_a_hang_up_is_no_files_at_all(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(sent)

        assert handover.receive(theirs) is None

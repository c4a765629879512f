"""Tun interfaces with the real wireguard-go, for each version of it that is at hand."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import prefix, run
from wgsvc.errors import NotPermittedError, UnavailableError
from wgsvc.system.linux import tun as tun_module
from wgsvc.system.linux.system import Linux
from wgsvc.values import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.system.base import Tun

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("own_network")]

DEADLINE_S = 10.0
PIECE = tun_module.PIECE_BYTES
PROGRAMS = [
    found
    for name in ("wireguard-go", *os.environ.get("WGSVC_TEST_WIREGUARD_GO", "").split(":"))
    if name and (found := shutil.which(name))
]


@contextlib.contextmanager
def wireguard_go(program: str, tun: Tun) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "WG_TUN_FD": str(tun.fd), "WG_PROCESS_FOREGROUND": "1"}
    child = subprocess.Popen(
        [program, "-f", tun.name],
        env=environment,
        pass_fds=[tun.fd],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answers(tun.name)
        yield child
    finally:
        child.kill()
        child.wait()
        os.unlink(f"/run/wireguard/{tun.name}.sock")


def answers(name: str) -> None:
    """Wait until UAPI answers."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(f"/run/wireguard/{name}.sock")
            except OSError:
                assert time.monotonic() < deadline
            else:
                connection.sendall(b"get=1\n\n")
                assert connection.recv(65536)
                return
        select.select([], [], [], 0.01)


def key_pair() -> tuple[str, str]:
    secret = run("wg", "genkey").strip()
    public = subprocess.run(
        ["wg", "pubkey"], input=secret, capture_output=True, text=True, check=True
    ).stdout
    return secret, public.strip()


def configure(name: str, secret: str, port: int, peer: str, endpoint_port: int) -> None:
    text = (
        f"[Interface]\nPrivateKey = {secret}\nListenPort = {port}\n"
        f"[Peer]\nPublicKey = {peer}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        f"Endpoint = 127.0.0.1:{endpoint_port}\n"
    )
    subprocess.run(["wg", "setconf", name, "/dev/stdin"], input=text, text=True, check=True)


@pytest.mark.skipif(not PROGRAMS, reason="needs wireguard-go")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("destination", ["198.18.0.2", "2001:db8::2"])
def test_packets_pass_whole(program: str, destination: str) -> None:
    """
    Send a datagram into one tunnel; see it leave the other's tun.

    Were the packet header not the one that this wireguard-go expects, nothing would.
    """
    system = Linux(program)
    first, second = system.create_tun("wg0"), system.create_tun("wg1")
    (secret_a, public_a), (secret_b, public_b) = key_pair(), key_pair()
    with wireguard_go(program, first), wireguard_go(program, second):
        configure("wg0", secret_a, 50001, public_b, 50002)
        configure("wg1", secret_b, 50002, public_a, 50001)
        system.add_addresses("wg0", [prefix("198.18.0.1/32"), prefix("2001:db8::1/128")])
        for name in ("wg0", "wg1"):
            system.set_up(name)
        assert system.add_routes([Route(prefix(destination), first.ifindex)]) == []
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as ear,
            socket.socket(family, socket.SOCK_DGRAM) as mouth,
        ):
            ear.bind(("wg1", 3))
            payload = b"a whole packet of an odd length."
            mouth.sendto(payload, (destination, 9))
            packet = next_packet(ear, payload)
        wanted = 0x45 if family == socket.AF_INET else 0x60
        assert packet[0] == wanted
        assert socket.inet_pton(family, destination) in packet
    os.close(first.fd)
    os.close(second.fd)


def next_packet(ear: socket.socket, payload: bytes) -> bytes:
    """Return the first packet that ends with `payload`."""
    deadline = time.monotonic() + DEADLINE_S
    while select.select([ear], [], [], max(0.0, deadline - time.monotonic()))[0]:
        packet = ear.recv(65536)
        if packet.endswith(payload):
            return packet
    pytest.fail("the packet did not come")


@pytest.mark.skipif(not PROGRAMS, reason="needs wireguard-go")
def test_a_killed_wireguard_go_loses_nothing_while_we_hold_the_tun() -> None:
    system = Linux(PROGRAMS[0])
    tun = system.create_tun("wg0")
    with wireguard_go(PROGRAMS[0], tun):
        system.add_addresses("wg0", [prefix("198.18.0.1/24")])
        system.set_up("wg0")
        assert system.add_routes([Route(prefix("198.19.0.0/16"), tun.ifindex)]) == []
        before = system.interface("wg0"), system.routes(ifindex=tun.ifindex)
    assert (system.interface("wg0"), system.routes(ifindex=tun.ifindex)) == before
    with wireguard_go(PROGRAMS[0], tun):
        assert (system.interface("wg0"), system.routes(ifindex=tun.ifindex)) == before
    os.close(tun.fd)
    assert system.interface("wg0") is None


@pytest.mark.skipif(not PROGRAMS, reason="needs wireguard-go")
def test_an_adopted_tun_keeps_the_interface_when_its_holder_dies() -> None:
    system = Linux(PROGRAMS[0])
    tun = system.create_tun("wg0")
    with wireguard_go(PROGRAMS[0], tun) as child:
        os.close(tun.fd)  # as if the supervisor had died
        assert system.take_tun(child.pid, "wg1") is None
        taken = system.take_tun(child.pid, "wg0")
        assert taken is not None
        assert not os.get_inheritable(taken)
        child.send_signal(signal.SIGKILL)
        child.wait()
        found = system.interface("wg0")
        assert found is not None
        assert found.ifindex == tun.ifindex
    with wireguard_go(PROGRAMS[0], tun._replace(fd=taken)):
        pass
    os.close(taken)
    assert system.interface("wg0") is None


@pytest.mark.skipif(not PROGRAMS, reason="needs wireguard-go")
def test_the_peer_of_uapi_is_wireguard_go() -> None:
    system = Linux(PROGRAMS[0])
    tun = system.create_tun("wg0")
    with (
        wireguard_go(PROGRAMS[0], tun) as child,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect("/run/wireguard/wg0.sock")
        assert system.peer_pid(connection) == child.pid
    os.close(tun.fd)


def test_a_persistent_tun_of_somebody_else_is_not_joined() -> None:
    run("ip", "tuntap", "add", "wg0", "mode", "tun")
    before = Linux().interfaces()
    with pytest.raises(Exception, match="already"):
        Linux().create_tun("wg0")
    assert Linux().interfaces() == before


def test_a_tun_that_comes_up_has_no_address_of_its_own() -> None:
    system = Linux()
    tun = system.create_tun("wg0")
    system.set_up("wg0")
    found = system.interface("wg0")
    assert found is not None
    assert found.addresses == ()
    os.close(tun.fd)


def test_the_descriptor_is_close_on_exec_and_non_blocking() -> None:
    tun = Linux().create_tun("wg0")
    assert not os.get_inheritable(tun.fd)
    assert not os.get_blocking(tun.fd)
    os.close(tun.fd)


def test_no_tun_device_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(tun_module, "DEVICE", f"{tmp_path}/tun")
    with pytest.raises(UnavailableError) as caught:
        Linux().create_tun("wg0")
    assert "modprobe tun" in caught.value.cure


def test_without_the_right_it_says_so_and_leaves_nothing() -> None:
    child = os.fork()
    if not child:
        status = 9
        try:
            os.setresuid(65534, 65534, 65534)
            Linux().create_tun("wg0")
        except NotPermittedError as error:
            status = 0 if error.cure else 8
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Linux().interface("wg0") is None


@pytest.mark.parametrize(
    ("image", "flags"),
    [
        (b"..tun.(*NativeTun).routineHackListener..", 0x0001),
        (b".(*NativeTun).routineHackListener.(*NativeTun).initFromFlags.", 0x5001),
        (b"x" * (PIECE - 9) + b".(*NativeTun).routineHackListener" + b"x" * PIECE, 0x0001),
        (b"x" * (PIECE - 9) + b".(*NativeTun).initFromFlags" + b"x" * PIECE, 0x5001),
        (
            b"x" * (2 * PIECE - 50)
            + b".(*NativeTun).routineHackListener"
            + b"x" * 5000
            + b".(*NativeTun).initFromFlags",
            0x5001,
        ),
        (b"x" * (3 * PIECE), 0x1001),
        (b"#!/bin/sh\nexec wireguard-go", 0x1001),
        (b"", 0x1001),
    ],
)
def test_a_program_tells_what_header_it_expects(tmp_path: object, image: bytes, flags: int) -> None:
    program = f"{tmp_path}/program"
    with open(program, "wb") as file:
        file.write(image)
    assert tun_module.flags_for(program) == flags


def test_a_program_that_is_not_there_is_no_error_here() -> None:
    assert tun_module.flags_for("no-such-program") == 0x1001
    assert tun_module.flags_for("/no/such/program") == 0x1001

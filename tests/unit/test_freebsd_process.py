"""Who is who: what FreeBSD's structures say, and what must not change when the clock is set."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_routes import fail
from tests.models.freebsd_vnet import Machine
from tests.unit.test_freebsd_rtsock import VERSIONS, recorded
from wgsvc.errors import UnavailableError
from wgsvc.system.freebsd import process
from wgsvc.system.freebsd.system import FreeBSD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def kernel(flavour: str) -> ModelKernel:
    return ModelKernel(Machine(FLAVOURS[flavour]).jail("a"))


@pytest.fixture(name="child")
def _child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


@pytest.mark.parametrize(
    ("version", "pid", "started"),
    [("13.2", 417, 1795364627_708124), ("15", 425, 1795366323_045792)],
)
def test_a_recorded_process(version: str, pid: int, started: int) -> None:
    assert version in VERSIONS
    found = process.KINFO_PROC.unpack(recorded(version)["KERN_PROC_PID-self"])
    assert (found[0], found[1] * 1_000_000 + found[2]) == (pid, started)


class Stepped(ModelKernel):
    """A kernel whose clock somebody sets, also between two readings."""

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__(Machine(FLAVOURS["13.2"]).jail("a"))
        self.steps = list(steps)
        self.step = 0

    def sysctl(self, mib: Sequence[int]) -> bytes:
        data = bytearray(super().sysctl(mib))
        seconds = struct.unpack_from("=q", data, 336)[0]
        struct.pack_into("=q", data, 336, seconds + self.step)
        if self.steps:
            self.step = self.steps.pop(0)
        return bytes(data)

    def sysctl_by_name(self, name: str) -> bytes:
        seconds, microseconds = struct.unpack("=qq", super().sysctl_by_name(name))
        return struct.pack("=qq", seconds + self.step, microseconds)


def test_a_start_id_does_not_move_with_the_clock() -> None:
    expected = process.start_id(Stepped([]), os.getpid())
    assert expected is not None
    for steps in ([3600], [-86400], [5, 5, 70], [1, 2, 3, 4, 4]):
        stepped = Stepped(steps)
        for _ in range(4):
            assert process.start_id(stepped, os.getpid()) == expected


def test_a_signal_is_for_the_recorded_process_only(child: subprocess.Popen[bytes]) -> None:
    system = FreeBSD(kernel("13.2"))
    start_id = system.start_id(child.pid)
    assert start_id
    watch = system.exit_watch(child.pid)
    try:
        assert not system.signal(child.pid, "0", watch, signal.SIGKILL)
        assert child.poll() is None
        assert system.signal(child.pid, start_id, watch, signal.SIGKILL)
        assert select.select([watch], [], [], 10)[0]
        assert not system.signal(child.pid, start_id, watch, signal.SIGKILL)
    finally:
        os.close(watch)


def test_nobody_has_no_start_and_no_watch(child: subprocess.Popen[bytes]) -> None:
    system = FreeBSD(kernel("13.2"))
    child.kill()
    child.wait()
    assert system.start_id(child.pid) is None
    with pytest.raises(ProcessLookupError):
        system.exit_watch(child.pid)


def test_credentials(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        for flavour in FLAVOURS:
            system = FreeBSD(kernel(flavour))
            assert system.peer_uid(client) == os.geteuid()
            if flavour == "12.0":
                with pytest.raises(UnavailableError):
                    system.peer_pid(client)
            else:
                assert system.peer_pid(client) == os.getpid()


@pytest.mark.parametrize(
    ("count", "told"), [(0, 0), (1, 1), (16, 16), (17, 16), (-1, 0), (32767, 16)]
)
def test_groups_are_those_that_there_are(count: int, told: int) -> None:
    class Groups(ModelKernel):
        def peer_credentials(self, connection: socket.socket) -> bytes:
            del connection
            return struct.pack("=IIhxx16I4xi4x", 0, 1001, count, *range(100, 116), 42)

    kernel = Groups(Machine(FLAVOURS["13.2"]).host)
    with socket.socket(socket.AF_UNIX) as connection:
        assert process.peer_groups(kernel, connection) == tuple(range(100, 100 + told))
        assert process.peer_uid(kernel, connection) == 1001
        assert process.peer_pid(kernel, connection) == 42


@pytest.mark.parametrize("answer", [b"", bytes(84), struct.pack("=I", 7) + bytes(84)])
def test_credentials_of_another_form_are_refused(answer: bytes) -> None:
    class Odd(ModelKernel):
        def peer_credentials(self, connection: socket.socket) -> bytes:
            del connection
            return answer

    with socket.socket(socket.AF_UNIX) as connection, pytest.raises(UnavailableError):
        process.peer_uid(Odd(Machine(FLAVOURS["13.2"]).host), connection)


def test_a_boot_has_a_name_also_where_the_kernel_gives_none() -> None:
    assert len(process.boot_id(kernel("13.2"))) == 32
    assert process.boot_id(kernel("12.0")).startswith("boottime-")


def test_being_the_reaper_already_is_success() -> None:
    class Already(ModelKernel):
        def procctl(self, command: int, argument: int | None) -> None:
            assert (command, argument) == (2, None)
            raise fail(errno.EBUSY)

    process.become_reaper(Already(Machine(FLAVOURS["13.2"]).host))

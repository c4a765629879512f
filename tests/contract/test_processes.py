"""What the system here promises of processes. A model of a kernel has none, so only real ones."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import DEADLINE_S, readable
from wgsvc.system import current
from wgsvc.system.freebsd.system import FreeBSD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wgsvc.system.base import System

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


@pytest.fixture(name="here")
def _here() -> System:
    return current()


@pytest.fixture(name="child")
def _child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "60"])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def python(code: str) -> str:
    """Run Python in a process of its own, with `system` at hand; return what it prints."""
    begin = "from wgsvc.system import current\nsystem = current()\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
    )
    return done.stdout.strip()


def test_a_watch_tells_of_an_end(here: System, child: subprocess.Popen[bytes]) -> None:
    watch = here.exit_watch(child.pid)
    try:
        assert not readable(watch, 0)
        child.kill()
        assert readable(watch, DEADLINE_S)
        child.wait()
        assert readable(watch, 0)
        assert not os.get_inheritable(watch)
    finally:
        os.close(watch)


def test_a_watch_works_for_no_child_of_ours(here: System) -> None:
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True
    )
    with shell:
        assert shell.stdout is not None
        grandchild = int(shell.stdout.readline())
        watch = here.exit_watch(grandchild)
        try:
            os.kill(grandchild, signal.SIGKILL)
            assert readable(watch, DEADLINE_S)
        finally:
            os.close(watch)


def test_no_process_has_no_watch(here: System, child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    with pytest.raises(ProcessLookupError):
        here.exit_watch(child.pid)


def test_start_ids_tell_processes_apart(here: System, child: subprocess.Popen[bytes]) -> None:
    mine = here.start_id(os.getpid())
    assert mine
    assert here.start_id(os.getpid()) == mine
    assert here.start_id(child.pid) != mine
    child.kill()
    child.wait()
    assert here.start_id(child.pid) is None


def test_a_start_id_survives_a_strange_name(here: System, tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    os.symlink("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as odd:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while (found := here.start_id(odd.pid)) is None:
                assert time.monotonic() < deadline
            assert found.replace(".", "").isdigit()
        finally:
            odd.kill()


def test_a_signal_reaches_the_process_it_is_for(
    here: System, child: subprocess.Popen[bytes]
) -> None:
    started = here.start_id(child.pid)
    assert started
    watch = here.exit_watch(child.pid)
    try:
        assert here.signal(child.pid, "not " + started, watch, signal.SIGKILL) is False
        assert child.poll() is None
        assert here.signal(child.pid, started, watch, signal.SIGTERM) is True
        assert child.wait(DEADLINE_S) == -signal.SIGTERM
        assert here.signal(child.pid, started, watch, signal.SIGTERM) is False
    finally:
        os.close(watch)


def test_the_peer_of_a_socket(here: System, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        f"s.bind({path!r})\ns.listen()\n"
        "print('ready', flush=True)\nc, _ = s.accept()\nc.recv(1)\n"
    )
    listener = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"ready\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            assert here.peer_pid(connection) == listener.pid


def test_who_connects(here: System, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        accepted, _ = server.accept()
        with accepted:
            assert here.peer_uid(accepted) == os.geteuid()
            assert here.peer_groups(accepted)[0] == os.getegid()


NOBODY = 65534
CALLER = """
import os, socket, sys
os.setgroups([4711, 4712])
os.setgid(4710)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect(sys.argv[1])
    caller.recv(1)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_the_groups_of_who_connects(here: System, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        (tmp_path / "s").chmod(0o666)
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        server.listen()
        with subprocess.Popen([sys.executable, "-c", CALLER, path]):
            server.settimeout(DEADLINE_S)
            accepted, _ = server.accept()
            with accepted:
                assert here.peer_uid(accepted) == NOBODY
                assert here.peer_groups(accepted)[0] == 4710
                assert {4711, 4712} <= {*here.peer_groups(accepted)}


WRITER = """
import os, sys
sys.stdin.read()
try:
    print(os.write(1, bytes(1000)), file=sys.stderr)
except BrokenPipeError:
    print("broken", file=sys.stderr)
"""


@pytest.mark.parametrize("which", ["here", "freebsd"])
def test_an_unbroken_pipe(which: str) -> None:
    """It ends with its last writer, and outlives its last reader but that one."""
    system = current() if which == "here" else FreeBSD()  # this part runs anywhere
    read_end, write_end, keep = system.unbroken_pipe()
    assert not any(map(os.get_inheritable, (read_end, write_end, *keep)))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        stdin=subprocess.PIPE, stdout=write_end, stderr=subprocess.PIPE, pass_fds=keep, text=True,
    )  # fmt: skip
    for descriptor in (write_end, *keep):
        os.close(descriptor)
    assert not readable(read_end, 0)
    os.close(read_end)

    with writer:
        _out, said = writer.communicate("go on")

    assert said == "1000\n"


def test_the_end_of_an_unbroken_pipe_is_seen(here: System) -> None:
    read_end, write_end, keep = here.unbroken_pipe()
    writer = subprocess.Popen(["sh", "-c", "echo last"], stdout=write_end, pass_fds=keep)
    for descriptor in (write_end, *keep):
        os.close(descriptor)
    writer.wait()
    try:
        assert os.read(read_end, 100) == b"last\n"
        assert os.read(read_end, 100) == b""
    finally:
        os.close(read_end)


def test_orphans_become_ours() -> None:
    code = """
import os
system.become_reaper()
read, write = os.pipe()
child = os.fork()
if not child:
    if not os.fork():
        os.read(read, 1)
        os._exit(7)
    os._exit(0)
print(os.waitpid(child, 0)[0] == child)
os.write(write, b"x")
print(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]))
"""
    assert python(code).split() == ["True", "7"]


def test_a_child_dies_with_its_parent(here: System) -> None:
    code = """
import os, signal, sys
read, write = os.pipe()
child = os.fork()
if not child:
    system.die_with_parent()
    os.write(write, b"x")
    while True:
        signal.pause()
os.read(read, 1)
print(child, flush=True)
sys.stdin.read()
"""
    begin = "from wgsvc.system import current\nsystem = current()\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", begin + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        watch = here.exit_watch(grandchild)
        try:
            assert not readable(watch, 0)
            parent.kill()
            assert readable(watch, DEADLINE_S)
        finally:
            os.close(watch)


def test_a_boot_has_one_name(here: System) -> None:
    assert here.boot_id() == python("print(system.boot_id())")
    assert len(here.boot_id()) > 8


def test_a_directory_watch_if_there_is_one(here: System, tmp_path: Path) -> None:
    watch = here.watch_directory(str(tmp_path))
    if watch is None:
        assert here.name == "linux"
        return
    try:
        for name in ("first", "second"):
            assert not readable(watch, 0)
            (tmp_path / name).touch()
            assert readable(watch, DEADLINE_S)
            assert readable(watch, 0)
            here.watch_drain(watch)
        assert not readable(watch, 0)
        os.unlink(tmp_path / "first")
        assert readable(watch, DEADLINE_S)
    finally:
        os.close(watch)


def test_a_tun_that_nobody_holds_is_not_taken(here: System) -> None:
    assert here.take_tun(os.getpid(), "wgct9") is None
    with pytest.raises(ProcessLookupError) as caught:
        os.kill(2**22 + 1, 0)
    assert caught.value.errno == errno.ESRCH
    assert here.take_tun(2**22 + 1, "wgct9") is None

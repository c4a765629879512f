"""Children: what they get, how they are known, how they are told apart when they fail."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_vnet import Machine
from wgsvc.errors import UnavailableError, WgsvcError
from wgsvc.loop import Loop
from wgsvc.programs import find_program, fixed_environment
from wgsvc.settings import Settings
from wgsvc.supervise import destroy
from wgsvc.supervise.context import Context
from wgsvc.supervise.process import Child, Children
from wgsvc.supervise.wireguard_go import describe_exit
from wgsvc.system import current
from wgsvc.system.freebsd.system import FreeBSD


class Nursery:
    """A loop with children, and the handlers that were there before put back."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.children = Children(self.loop, current())
        self.children.watch(lambda _number: None)
        self.loop.run(self.loop.sleep(0))

    def status(self, child: Child) -> int:
        """Run until a child has ended; return its wait status."""

        async def ended() -> int:
            assert await child.exited.wait(10)
            return child.exited.value()

        return self.loop.run(ended())

    def spawn(self, *argv: str, **more: Any) -> Child:
        """Start a program with the fixed environment."""
        return self.children.spawn(argv, role="test", env=fixed_environment(), **more)


@pytest.fixture(name="nursery")
def _nursery() -> Iterator[Nursery]:
    numbers = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    nursery = Nursery()
    yield nursery
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    nursery.children._wake.close()
    nursery.children._bell.close()
    nursery.loop.close()


def test_wait_status(nursery: Nursery) -> None:
    assert describe_exit(nursery.status(nursery.spawn("true"))) == "exited with 0"
    assert describe_exit(nursery.status(nursery.spawn("false"))) == "exited with 1"
    child = nursery.spawn("sleep", "1000")
    child.signal(signal.SIGKILL)
    assert describe_exit(nursery.status(child)) == "was killed by SIGKILL"


def test_a_signal_after_the_end_goes_to_nobody(nursery: Nursery) -> None:
    child = nursery.spawn("true")
    nursery.status(child)

    child.signal(signal.SIGKILL)  # its PID may be anybody's by now


WHAT_I_GOT = """
import json, os, sys
files = {}
for number in range(256):
    try:
        files[number] = list(os.fstat(number)[1:3])
    except OSError:
        pass
mask = os.umask(0)
with open(sys.argv[1], "w") as out:
    json.dump([files, os.getpid(), os.getsid(0), os.getcwd(), mask, list(os.environ)], out)
"""


def test_what_a_child_gets(nursery: Nursery, tmp_path: Path) -> None:
    kept, leaked = os.open("/etc/passwd", os.O_RDONLY), os.open("/etc/group", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    out = tmp_path / "out"
    child = nursery.spawn(sys.executable, "-c", WHAT_I_GOT, str(out), keep=[kept])
    assert nursery.status(child) == 0

    files, pid, session, folder, mask, names = json.loads(out.read_text())
    assert same(kept) in files.values()
    assert same(leaked) not in files.values()
    assert pid == session == child.pid
    assert (folder, mask) == ("/", 0o022)
    assert files["0"] == files["2"] == list(os.stat(os.devnull)[1:3])
    assert set(names) <= {"PATH", "HOME", "LANG", "LC_ALL"}
    os.close(kept)
    os.close(leaked)


def same(descriptor: int) -> list[int]:
    """Return what tells a file from others."""
    return list(os.fstat(descriptor)[1:3])


@pytest.mark.parametrize(
    ("mode", "text", "why"),
    [(0o644, "#!/bin/sh\n", "Permission denied"), (0o755, "nonsense\n", "Exec format error")],
)
def test_a_program_that_can_not_be_run(
    nursery: Nursery, tmp_path: Path, mode: int, text: str, why: str
) -> None:
    program = tmp_path / "program"
    program.write_text(text)
    program.chmod(mode)

    with pytest.raises(UnavailableError, match=why) as caught:
        nursery.spawn(str(program))
    assert str(program) in caught.value.message


def test_a_function_as_a_child(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.children.fork((tmp_path / "ran").touch, role="test")

    assert nursery.status(child) == 0
    assert (tmp_path / "ran").exists()


def test_what_a_child_met_that_was_to_destroy_an_interface(
    nursery: Nursery, tmp_path: Path
) -> None:
    """Its own error comes back, with its kind and exit status: no errno is made up."""
    jail = Machine(FLAVOURS["13.2"]).jail("one")
    tun = FreeBSD(ModelKernel(jail)).create_tun("wg0")
    os.close(tun.fd)
    user = FreeBSD(ModelKernel(jail, root=False))
    context = Context(nursery.loop, user, Settings(uapi_dir=str(tmp_path)))
    for end in (context.children._wake, context.children._bell):
        end.close()
    context.children = nursery.children

    with pytest.raises(WgsvcError) as caught:
        nursery.loop.run(destroy.gone(context, "wg0", tun.ifindex))

    os.close(context.hold_watch or -1)
    assert caught.value.message == "SIOCIFDESTROY wg0: not permitted"
    assert (caught.value.kind, caught.value.exit_code) == ("not-permitted", 77)


def test_programs_are_found_by_the_fixed_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert find_program("sh").endswith("/sh")
    assert find_program("/any/path") == "/any/path"
    with pytest.raises(UnavailableError, match="not installed"):
        find_program("no-such-program")

"""Children: what they get, how they are known, how they are told apart when they fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wgsvc.errors import UnavailableError
from wgsvc.loop import Loop
from wgsvc.supervise.process import Child, Children, find_program, fixed_environment
from wgsvc.supervise.wireguard_go import describe_exit
from wgsvc.system import current


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


def test_what_a_child_gets(nursery: Nursery, tmp_path: Path) -> None:
    kept, leaked = os.open("/etc/passwd", os.O_RDONLY), os.open("/etc/group", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    out = tmp_path / "out"
    code = (
        f"ls -l /proc/self/fd >{out}; echo $$ $(cut -d' ' -f6 /proc/$$/stat) >>{out};"
        f"env >>{out}; pwd >>{out}; umask >>{out}; grep SigIgn /proc/$$/status >>{out}"
    )
    child = nursery.spawn("sh", "-c", code, keep=[kept])
    assert nursery.status(child) == 0

    text = out.read_text()
    assert "/etc/passwd" in text
    assert "/etc/group" not in text
    assert f"{child.pid} {child.pid}\n" in text  # a session of its own
    assert "\n/\n0022\n" in text
    assert text.count("/dev/null") >= 2  # stdin and stderr
    names = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
    assert names <= {"PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}
    os.close(kept)
    os.close(leaked)


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


def test_programs_are_found_by_the_fixed_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert find_program("sh").endswith("/sh")
    assert find_program("/any/path") == "/any/path"
    with pytest.raises(UnavailableError, match="not installed"):
        find_program("no-such-program")

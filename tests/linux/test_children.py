"""A program that the daemon runs: its session, its descriptors, what can go wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from wgsvc.errors import UnavailableError
from wgsvc.loop import Loop
from wgsvc.programs import fixed_environment
from wgsvc.supervise.process import Children
from wgsvc.system import current

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SHOW = "echo $(ls /proc/self/fd) session $(ps -o sid= -p $$) pid $$; cat /dev/fd/$KEPT"


@pytest.fixture(name="children", params=["posix_spawn", "fork"])
def _children(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Children]:
    if request.param == "fork":

        def no_sessions(*_: Any, **__: Any) -> int:
            raise NotImplementedError  # as where libc has no POSIX_SPAWN_SETSID

        monkeypatch.setattr(os, "posix_spawn", no_sessions)
    loop = Loop()
    made = Children(loop, current())
    yield made
    made._wake.close()
    made._bell.close()
    loop.close()


def started_with() -> set[int]:
    """Return the descriptors that this process did not open itself, as Python does."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.add(int(name))
    return found


def run(children: Children, argv: list[str], keep: list[int]) -> str:
    ours, theirs = socket.socketpair()
    null = os.open(os.devnull, os.O_RDONLY)
    with ours, theirs:
        try:
            child = children.execute(
                argv,
                role="wireguard-go",
                env=fixed_environment(KEPT=str(sum(keep))),
                stdio=(null, theirs.fileno(), theirs.fileno()),
                keep=keep,
            )
        finally:
            os.close(null)
        theirs.close()
        with ours.makefile() as said:
            text = said.read()
    _, status = os.waitpid(child.pid, 0)
    assert (status, text.split(" pid ")[-1:]) == (0, [f"{child.pid}\nkept\n"])
    return text


def test_it_has_a_session_of_its_own_and_no_descriptor_it_was_not_given(
    children: Children,
) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"kept\n")
    os.close(write_end)
    try:
        text = run(children, ["/bin/sh", "-c", SHOW], [read_end])
    finally:
        os.close(read_end)

    words = text.split()
    assert words[words.index("session") + 1] == words[words.index("pid") + 1]
    descriptors = {int(word) for word in words[: words.index("session")]}
    # ls has one for /proc/self/fd: 3. What pytest was started with, the daemon has closed.
    assert descriptors - started_with() - {3} == {0, 1, 2, read_end} - {3}


@pytest.mark.parametrize(("path", "why"), [("/nowhere/x", "No such file"), ("/etc", "denied")])
def test_what_cannot_be_run_says_why(children: Children, path: str, why: str) -> None:
    with pytest.raises(UnavailableError, match=f"{path} can't be run: .*{why}"):
        run(children, [path], [])

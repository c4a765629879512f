"""What hooks write: bytes in a pipe, lines for people."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wgsvc.loop import Loop
from wgsvc.settings import Settings
from wgsvc.supervise import hook_output
from wgsvc.supervise.context import Context
from wgsvc.supervise.hook_output import LINE_LIMIT_BYTES, SHOWN_LIMIT_BYTES, Output
from wgsvc.system import current


class Pipe:
    """A hook's pipe, and who reads it."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.context = Context(self.loop, current(), Settings(uapi_dir=str(folder)))
        self.read_end, self.write_end = os.pipe()
        self.shown: list[str] = []
        self.noted: list[str] = []
        self.output = Output(self.context, self.read_end, self.shown.append)
        self.turn()

    def turn(self, seconds: float = 0) -> None:
        """Let every task run that can."""
        self.loop.run(self.loop.sleep(seconds))

    def write(self, *pieces: bytes) -> None:
        for piece in pieces:
            assert os.write(self.write_end, piece) == len(piece)
            self.turn()
            self.turn()

    def hook_ended(self) -> None:
        self.loop.run(self.output.hook_ended("wg0", self.noted.append))

    def closed(self) -> bool:
        try:
            os.fstat(self.read_end)
        except OSError:
            return True
        return False

    def close(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1


@pytest.fixture(name="pipe")
def _pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path)
    yield pipe
    pipe.close()
    pipe.output.stop()
    pipe.turn()
    assert pipe.closed()
    pipe.context.children._wake.close()
    pipe.context.children._bell.close()
    pipe.loop.close()


def test_a_line_in_pieces_is_one_line(pipe: Pipe) -> None:
    pipe.write(b"one\ntw", b"o \xc3", b"\xa9\n", b"\n", b"three")

    assert pipe.shown == ["one", "two é", ""]
    pipe.close()
    pipe.hook_ended()
    assert pipe.shown == ["one", "two é", "", "three"]
    assert pipe.closed()
    assert pipe.context.left_running == {}


def test_what_other_systems_end_lines_with_ends_them(pipe: Pipe) -> None:
    pipe.write(b"10 %\r20 %\r\ndone\r\n")

    assert pipe.shown == ["10 %", "20 %", "done"]


def test_a_line_without_an_end_is_cut(pipe: Pipe) -> None:
    pipe.write(b"a" * (LINE_LIMIT_BYTES + 1))
    assert pipe.shown == ["a" * LINE_LIMIT_BYTES]  # at once: its end may never come

    pipe.write(b"b\n", b"c" * (2 * LINE_LIMIT_BYTES) + b"d\n")

    assert pipe.shown[1] == "ab"
    assert pipe.shown[2:] == ["c" * LINE_LIMIT_BYTES, "c" * LINE_LIMIT_BYTES, "d"]


def test_what_the_hook_wrote_last_is_shown_before_it_has_ended_for_us(pipe: Pipe) -> None:
    os.write(pipe.write_end, b"x\n" * 30_000)

    pipe.hook_ended()

    assert pipe.shown == ["x"] * 30_000
    assert pipe.noted == []


def test_what_comes_after_the_hook_is_only_noted(pipe: Pipe) -> None:
    pipe.write(b"shown\nbegun ")
    pipe.hook_ended()
    pipe.write(b"and ended\n")

    assert (pipe.shown, pipe.noted) == (["shown"], ["begun and ended"])
    pipe.close()
    pipe.turn()
    assert pipe.closed()
    assert pipe.context.left_running == {"wg0": []}


def test_exactly_as_much_as_is_shown_is_not_too_much(pipe: Pipe) -> None:
    pipe.hook_ended()
    line = b"x" * 1023 + b"\n"
    for _ in range(SHOWN_LIMIT_BYTES // len(line)):
        pipe.write(line)

    assert len(pipe.noted) == SHOWN_LIMIT_BYTES // len(line)
    pipe.write(b"more\n", b"and more\n")
    pipe.turn(0.05)
    assert len(pipe.noted) == SHOWN_LIMIT_BYTES // len(line) + 1
    assert pipe.noted[-1].endswith("the rest is dropped")


def test_what_is_dropped_takes_hardly_any_processor(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`yes &` would have it read without end."""
    pipe.hook_ended()
    for _ in range(SHOWN_LIMIT_BYTES // 4096):
        pipe.write(b"x" * 4096)
    monkeypatch.setattr(hook_output, "DROP_PAUSE_S", 3600)
    pipe.write(b"more")
    pipe.write(b"not read before the pause is over")

    assert os.read(pipe.read_end, 100) == b"not read before the pause is over"


def test_a_stop_tells_the_rest_and_closes(pipe: Pipe) -> None:
    pipe.write(b"no end")
    pipe.hook_ended()
    assert not pipe.closed()

    pipe.output.stop()
    pipe.turn()

    assert pipe.noted == ["no end"]
    assert pipe.closed()

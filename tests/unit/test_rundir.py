"""The run directory and its lock: root's alone, and one holder for life."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wgsvc.errors import BusyError, NotPermittedError, OSFailureError
from wgsvc.supervise import rundir
from wgsvc.supervise.rundir import Lock


def test_made_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    rundir.prepare(str(path))
    rundir.prepare(str(path))

    assert path.stat().st_mode & 0o7777 & ~0o750 == 0


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
def test_others_could_write(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(NotPermittedError, match="written by others") as caught:
        rundir.prepare(str(tmp_path))
    assert caught.value.cure.endswith(f"chmod 750 {tmp_path}")


def test_a_link_or_a_file(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(tmp_path)
    file.touch()

    with pytest.raises(NotPermittedError, match="symbolic link"):
        rundir.prepare(str(link))
    with pytest.raises(NotPermittedError, match="not a directory"):
        rundir.prepare(str(file))


def test_no_folder_above(tmp_path: Path) -> None:
    with pytest.raises(OSFailureError, match="mkdir"):
        rundir.prepare(str(tmp_path / "no" / "run"))


def test_one_holder(tmp_path: Path) -> None:
    first, second = Lock(str(tmp_path)), Lock(str(tmp_path))
    first.take()

    with pytest.raises(BusyError, match=f"PID {os.getpid()}"):
        second.take()

    first.release()
    assert (tmp_path / "wgsvc.pid").read_text() == ""
    second.take()
    second.release()


def test_a_crash_leaves_it_free(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        Lock(str(tmp_path)).take()
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert (tmp_path / "wgsvc.pid").read_text() == f"{pid}\n"

    lock = Lock(str(tmp_path))
    lock.take()
    lock.release()


def test_a_child_does_not_inherit_it(tmp_path: Path) -> None:
    lock = Lock(str(tmp_path))
    lock.take()

    assert not os.get_inheritable(lock._fd)
    lock.release()


@pytest.mark.parametrize("what", ["link", "hard link", "fifo"])
def test_no_plain_file_of_ours(tmp_path: Path, what: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "wgsvc.pid"
    victim.write_text("precious")
    if what == "link":
        path.symlink_to(victim)
    elif what == "hard link":
        path.hardlink_to(victim)
    else:
        os.mkfifo(path)

    with pytest.raises(NotPermittedError, match="not a plain file"):
        Lock(str(tmp_path)).take()
    assert victim.read_text() == "precious"

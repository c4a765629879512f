"""Who may ask: what the run directory and the socket look like, and which group that is."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.errors import ConfigError, NotPermittedError, OSFailureError, WgsvcError
from wgsvc.supervise import access, control, wire
from wgsvc.supervise.access import NO_GROUP, Asker

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to chown")


def test_what_readers_may_ask_is_among_the_verbs_and_changes_nothing() -> None:
    assert set(wire.READING) <= set(wire.VERBS)
    assert not set(wire.READING) & {"start", "stop", "restart", "reload", "save", "retire"}


def test_a_group_by_its_name_and_by_its_number() -> None:
    some = grp.getgrall()[-1]

    assert access.group_id(some.gr_name) == some.gr_gid
    assert access.group_id(str(some.gr_gid)) == some.gr_gid
    assert access.group_id("4000000000") == 4_000_000_000
    assert access.group_id("") == NO_GROUP


@pytest.mark.parametrize("group", ["no-such-group", "-1", "4294967295", "99999999999", "²", "1.5"])
def test_no_group(group: str) -> None:
    with pytest.raises(ConfigError, match="status_group"):
        access.group_id(group)


@pytest.fixture(name="door")
def _door(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Return a run directory and the control socket in it."""
    run_dir = tmp_path / "run"
    run_dir.mkdir(0o750)
    path = str(run_dir / "control.sock")
    listener = control.listen(path)
    yield str(run_dir), path
    listener.close()


def looks(*paths: str) -> list[tuple[int, str]]:
    """Return group and mode of each."""
    found = [os.stat(path) for path in paths]
    return [(each.st_gid, oct(stat.S_IMODE(each.st_mode))) for each in found]


@needs_root
def test_a_group_is_let_in_and_out_again(door: tuple[str, str]) -> None:
    os.chmod(door[0], 0o700)

    access.admit(*door, 4711)
    assert looks(*door) == [(4711, "0o750"), (4711, "0o660")]
    access.admit(*door, NO_GROUP)
    assert looks(*door) == [(os.getegid(), "0o750"), (os.getegid(), "0o600")]


def test_without_a_group_nothing_is_opened(door: tuple[str, str]) -> None:
    os.chmod(door[0], 0o700)

    access.admit(*door, NO_GROUP)

    assert looks(*door) == [(os.getegid(), "0o700"), (os.getegid(), "0o600")]


@needs_root
def test_through_a_link_nothing_is_opened(tmp_path: Path, door: tuple[str, str]) -> None:
    link = tmp_path / "link"
    link.symlink_to(door[0])

    with pytest.raises(OSFailureError):
        access.admit(str(link), door[1], 4711)
    assert looks(*door) == [(os.getegid(), "0o750"), (os.getegid(), "0o600")]


def asked(uid: int, groups: tuple[int, ...], group: int, pid: int | None = 42) -> Asker:
    """Return who the supervisor takes somebody for."""

    def peer_pid(_: object) -> int:
        if pid is None:
            raise WgsvcError("this kernel does not tell")
        return pid

    system = SimpleNamespace(
        peer_uid=lambda _: uid, peer_pid=peer_pid, peer_groups=lambda _: groups
    )
    with socket.socket() as connection:
        return access.asker(cast("Any", system), connection, group)


def test_who_asks() -> None:
    assert asked(0, (), NO_GROUP) == Asker(0, 42)
    assert asked(os.geteuid(), (), 5, pid=None) == Asker(os.geteuid(), 0)
    assert asked(4711, (3, 5), 5) == Asker(4711, 42, reads=True)
    for groups, group in (((3, 5), NO_GROUP), ((3, 5), 6), ((), 5)):
        with pytest.raises(NotPermittedError):
            asked(4711, groups, group)


def test_without_a_group_nobody_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(pwd, "getpwuid", looked.append)

    with pytest.raises(NotPermittedError):
        asked(4711, (3, 5), NO_GROUP)
    assert looked == []


def test_groups_that_the_kernel_does_not_tell_are_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = SimpleNamespace(pw_name="mon", pw_gid=7)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {4711: user}[uid])
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 8] if name == "mon" else [])

    assert asked(4711, tuple(range(100, 116)), 8).reads
    with pytest.raises(NotPermittedError):
        asked(4711, tuple(range(100, 116)), 9)
    with pytest.raises(NotPermittedError):
        asked(4712, tuple(range(100, 116)), 8)  # a user that there is not


@pytest.mark.parametrize("verb", wire.VERBS)
def test_root_may_ask_for_everything_and_a_reader_for_little(verb: str) -> None:
    access.check(Asker(0, 1), verb)
    reader = Asker(4711, 1, reads=True)
    if verb in wire.READING:
        access.check(reader, verb)
    else:
        with pytest.raises(NotPermittedError, match=verb):
            access.check(reader, verb)

"""Reading what root acts on: each check by itself, without root."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from wgsvc import trusted
from wgsvc.errors import (
    ConfigError,
    DeniedError,
    NotPermittedError,
    OSFailureError,
    WgsvcError,
)

LIMIT = 1 << 20


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    path = tmp_path / "wg0.conf"
    path.write_bytes(b"[Interface]\n")
    path.chmod(0o640)
    return path


def read(path: object, limit_bytes: int = LIMIT) -> trusted.TrustedFile:
    return trusted.read(str(path), limit_bytes=limit_bytes)


def test_what_was_read_its_mode_and_where_it_really_is(file: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("../wg0.conf")

    found = read(tmp_path / "folder" / "link")

    assert found.data == b"[Interface]\n"
    assert stat.S_IMODE(found.mode) == 0o640
    assert stat.S_ISREG(found.mode)
    assert found.path == str(file)


# --- owners


class Stat:
    """The status of a path, but for what a test says about it."""

    def __init__(self, status: os.stat_result, **changes: int) -> None:
        self._status, self._changes = status, changes

    def __getattr__(self, name: str) -> Any:
        return self._changes.get(name, getattr(self._status, name))


def belongs(monkeypatch: pytest.MonkeyPatch, path: object, uid: int) -> None:
    """Let a path, which exists, seem to be another user's."""
    real_lstat, real_fstat = os.lstat, os.fstat
    inode = real_lstat(str(path)).st_ino

    def seen(status: os.stat_result) -> Any:
        return Stat(status, st_uid=uid) if status.st_ino == inode else status

    monkeypatch.setattr(os, "lstat", lambda where: seen(real_lstat(where)))
    monkeypatch.setattr(os, "fstat", lambda where: seen(real_fstat(where)))


def test_a_file_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    belongs(monkeypatch, file, 54321)

    with pytest.raises(NotPermittedError) as failure:
        read(file)

    assert failure.value.message == (f"the file {file} can't be trusted: it belongs to user 54321")
    assert failure.value.cure == f"chown root {file}"


def test_a_folder_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    belongs(monkeypatch, file.parent, 54321)

    with pytest.raises(NotPermittedError) as failure:
        read(file)

    assert failure.value.message.startswith(f"the folder {file.parent} can't be trusted: it belon")
    assert failure.value.cure == f"chown root {file.parent}"


def test_a_link_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = file.parent / "link"
    link.symlink_to(file)
    belongs(monkeypatch, link, 54321)

    with pytest.raises(NotPermittedError) as failure:
        read(link)

    assert failure.value.message.startswith(f"the link {link} can't be trusted: it belongs")
    assert failure.value.cure == f"chown -h root {link}"


@pytest.mark.parametrize("uid", ["root", "caller"])
def test_roots_and_the_callers_own_are_trusted(
    file: Path, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd13")
    caller = os.lstat(file).st_uid or 4242
    monkeypatch.setattr(os, "geteuid", lambda: caller)
    belongs(monkeypatch, file, 0 if uid == "root" else caller)
    monkeypatch.setattr(trusted, "_walk", lambda path, _uids: path)

    assert read(file).data == b"[Interface]\n"


def test_who_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    maps(monkeypatch, "0 1000 1\n")
    monkeypatch.setattr(sys, "platform", "freebsd13")  # it has no such map
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert trusted._trusted_uids() == {0, 1001}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert trusted._trusted_uids() == {0}


def maps(monkeypatch: pytest.MonkeyPatch, uid_map: str) -> None:
    """Let the kernel (Linux) map these users: inside, outside, how many."""
    monkeypatch.setattr(sys, "platform", "linux")
    files = {"/proc/self/uid_map": uid_map, "/proc/sys/kernel/overflowuid": "65534\n"}

    def open_(path: str, *, encoding: str) -> Any:
        return io.TextIOWrapper(io.BytesIO(files[path].encode(encoding)), encoding)

    monkeypatch.setattr("builtins.open", open_)


@pytest.mark.parametrize(
    ("uid_map", "overflows"),
    [
        ("         0          0 4294967295\n", False),
        ("         0       1000          1\n", True),
        ("         0       1000          1\n         1     100000      65534\n", True),
        ("         0       1000          1\n         1     100000      65535\n", False),
        ("         0       1000      65536\n", False),
    ],
)
def test_the_real_root_is_trusted_where_a_user_namespace_hides_it(
    monkeypatch: pytest.MonkeyPatch, uid_map: str, *, overflows: bool
) -> None:
    """In a rootless container the real root's files show the overflow user."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    maps(monkeypatch, uid_map)

    assert trusted._trusted_uids() == ({0, 65534} if overflows else {0})


def test_the_overflow_user_is_nobody_to_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    maps(monkeypatch, "0 1000 1\n")

    assert trusted._trusted_uids() == {0, 1000}


# --- modes


@pytest.mark.parametrize(
    ("mode", "who"), [(0o620, "its group"), (0o602, "everybody"), (0o666, "everybody")]
)
def test_who_can_write_is_said(file: Path, mode: int, who: str) -> None:
    file.chmod(mode)

    with pytest.raises(NotPermittedError) as failure:
        read(file)

    assert failure.value.message == f"the file {file} can't be trusted: {who} can write to it"
    assert failure.value.cure == f"chmod go-w {file}"


def test_a_folder_that_others_write_to_is_named_as_one(file: Path) -> None:
    file.parent.chmod(0o770)

    with pytest.raises(NotPermittedError, match=f"the folder {file.parent} can't be trusted: its"):
        read(file)


def test_a_sticky_folder_that_everybody_writes_to_is_fine_where_the_owner_is(file: Path) -> None:
    file.parent.chmod(0o1777)

    assert read(file).data


# --- the way there


def chain(file: Path, links: int) -> Path:
    """Return a link to a link to ... a file."""
    at = file
    for number in range(links):
        link = file.parent / f"link{number}"
        link.symlink_to(at)
        at = link
    return at


def test_so_many_links_are_followed_and_no_more(file: Path) -> None:
    """The kernel's own bound."""
    assert read(chain(file, 40)).data

    (file.parent / "one more").symlink_to("link39")
    with pytest.raises(ConfigError) as failure:
        read(file.parent / "one more")
    assert failure.value.message == (f"{file.parent}/one more: {os.strerror(errno.ELOOP)}")


def test_dots_and_slashes_and_a_way_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent / "folder"
    folder.mkdir()
    (folder / "up").symlink_to("..")
    (file.parent / "down").symlink_to(f"{folder}//./")

    assert read(f"{folder}/..//./wg0.conf").path == str(file)
    assert read(f"{file.parent}/down/up/down/../wg0.conf").path == str(file)
    monkeypatch.chdir(folder)
    assert read("../wg0.conf").path == str(file)
    monkeypatch.chdir("/")
    assert read(f"..{file}").path == str(file)


def test_an_absolute_link_begins_at_the_root(file: Path) -> None:
    folder = file.parent / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(file)

    assert read(folder / "link").path == str(file)


# --- opening and reading


def test_a_file_is_opened_so_that_nothing_can_be_put_in_its_way(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No link is followed, no FIFO waited for, and no child gets the descriptor."""
    seen: list[int] = []
    real = os.open

    def open_(path: str, flags: int, *more: int) -> int:
        seen.append(flags)
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", open_)
    read(file)

    assert seen == [os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC]


@pytest.mark.parametrize("size", [99, 100, 101, 5000])
def test_a_file_has_a_largest_size_and_no_more_is_read(
    file: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(b"x" * size)
    got: list[int] = []
    real = os.read

    def read_(descriptor: int, count: int) -> bytes:
        data = real(descriptor, count)
        got.append(len(data))
        return data

    monkeypatch.setattr(os, "read", read_)
    if size <= 100:
        assert read(file, 100).data == b"x" * size
    else:
        with pytest.raises(ConfigError, match="is larger than 100 bytes"):
            read(file, 100)
    assert sum(got) <= 101


def test_a_file_is_read_in_parts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(bytes(range(250)))
    monkeypatch.setattr(trusted, "_CHUNK_BYTES", 100)
    asked: list[int] = []
    real = os.read

    def read_(descriptor: int, count: int) -> bytes:
        asked.append(count)
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", read_)

    assert read(file, 260).data == bytes(range(250))
    assert asked == [100, 100, 61, 11]


def test_the_last_byte_beyond_the_limit_is_seen_in_a_part_of_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(b"x" * 101)
    monkeypatch.setattr(trusted, "_CHUNK_BYTES", 100)

    with pytest.raises(ConfigError, match="is larger than 100 bytes"):
        read(file, 100)


def _fails(number: int) -> Any:
    def fail(*_arguments: object, **_more: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["open", "read", "lstat"])
def test_a_disk_that_fails(file: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/dev/fd")
    monkeypatch.setattr(os, call, _fails(errno.EIO))

    with pytest.raises(OSFailureError) as failure:
        read(file)

    monkeypatch.undo()
    assert (failure.value.call, failure.value.subject) == ("open", str(file))
    assert failure.value.errno == errno.EIO
    assert os.listdir("/dev/fd") == before


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOENT, ConfigError, "x: no such file"),
        (errno.ENOTDIR, ConfigError, "x: no such file"),
        (errno.EACCES, DeniedError, "x: permission denied"),
        (errno.EPERM, DeniedError, "x: permission denied"),
        (errno.ELOOP, ConfigError, f"x: {os.strerror(errno.ELOOP)}"),
        (errno.EMLINK, ConfigError, f"x: {os.strerror(errno.EMLINK)}"),
        (errno.ENXIO, ConfigError, f"x: {os.strerror(errno.ENXIO)}"),
        (errno.ENAMETOOLONG, ConfigError, f"x: {os.strerror(errno.ENAMETOOLONG)}"),
    ],
)
def test_what_an_errno_means(number: int, kind: type[WgsvcError], said: str) -> None:
    error = trusted.explained(OSError(number, ""), "x")

    assert type(error) is kind
    assert error.message == said
    assert error.cure == ("run as root" if kind is DeniedError else "")


def test_an_error_without_an_errno_is_one_of_the_system() -> None:
    error = trusted.explained(OSError("AF_UNIX path too long"), "x")

    assert isinstance(error, OSFailureError)
    assert (error.call, error.subject, error.errno) == ("open", "x", 0)


def test_what_is_no_file_is_said_with_the_path_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")

    with pytest.raises(ConfigError) as failure:
        read(tmp_path / "link")
    assert failure.value.message == f"{tmp_path}/link: is not a regular file"


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a UNIX socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(WgsvcError):
            read("s")

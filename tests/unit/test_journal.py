"""The journal: a cache that may be missing, cut short, forged or of another boot."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.config.model import Hooks
from wgsvc.errors import OSFailureError
from wgsvc.supervise import context, journal
from wgsvc.supervise.journal import Entry
from wgsvc.system.base import RulePair
from wgsvc.values import Prefix, Route

ENTRY = Entry(
    "wg0",
    "boot",
    "up",
    ifindex=7,
    kernel_name="tun0",
    pid=4242,
    start_id="99",
    since=1.5,
    path="/etc/wireguard/wg0.conf",
    digest="d",
    table=7,
    mtu=1420,
    pins=(
        Route(Prefix(4, 1, 32), gateway="192.0.2.1", ifindex=2),
        Route(Prefix(6, 1, 128), blackhole=True),
    ),
    dns=True,
    name_servers=("192.0.2.53",),
    full_table=51820,
    rules=(RulePair(4, 100, 99), RulePair(6, 100, 99)),
    filtered=(4, 6),
    valid_mark="0",
    hooks=Hooks(post_down=("echo ü", "b")),
    changes=("mtu=1380",),
)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> str:
    return str(tmp_path)


def test_round_trip(folder: str) -> None:
    journal.write(folder, ENTRY)

    found = journal.read(folder, "wg0", "boot")
    assert found == ENTRY
    assert isinstance(found.rules[0], RulePair)
    assert journal.read_all(folder, "boot") == [ENTRY]
    assert os.listdir(folder) == ["wg0.json"]
    assert os.stat(f"{folder}/wg0.json").st_mode & 0o777 == 0o600


def test_another_boot_or_another_name_is_as_none(folder: str) -> None:
    journal.write(folder, ENTRY)
    os.link(f"{folder}/wg0.json", f"{folder}/wg1.json")

    assert journal.read(folder, "wg0", "next boot") is None
    assert journal.read(folder, "wg1", "boot") is None


def test_removed_twice(folder: str) -> None:
    journal.write(folder, ENTRY)
    journal.remove(folder, "wg0")
    journal.remove(folder, "wg0")

    assert journal.read_all(folder, "boot") == []


def stored(**changes: Any) -> str:
    return json.dumps({"schema": journal.SCHEMA, **ENTRY._asdict(), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": -1},
        {"pid": "4242"},
        {"pid": 1 << 31},
        {"pid": True},
        {"pid": None},
        {"pid": 4.5},
        {"ifindex": -7},
        {"ifindex": "7"},
        {"mtu": []},
        {"start_id": 99},
        {"path": ["x"]},
        {"phase": None},
        {"schema": 0},
        {"schema": 2},
        {"surprise": 1},
        {"pins": [["x"]]},
        {"pins": 5},
        {"pins": [[[4, 1, 32, 9], 0]]},
        {"hooks": [[], [], [], [], []]},
        {"hooks": 3},
        {"name": "../wg0"},
        {"backend": 1},
        {"kernel_name": 1},
        {"digest": None},
        {"valid_mark": 1},
        {"full_table": -1},
        {"full_table": 1 << 32},
        {"full_table": True},
        {"full_table": "7"},
        {"rules": [[4, 1]]},
        {"rules": [["x", 1, 2]]},
        {"filtered": ["x"]},
        {"changes": 5},
        {"name_servers": 5},
    ],
    ids=str,
)
def test_forged(folder: str, changes: dict[str, Any]) -> None:
    Path(folder, "wg0.json").write_text(stored(**changes))

    assert journal.read(folder, "wg0", "boot") is None
    assert journal.read_all(folder, "boot") == []


@pytest.mark.parametrize("size", range(0, len(stored()), 17))
def test_cut_short(folder: str, size: int) -> None:
    Path(folder, "wg0.json").write_text(stored()[:size])

    assert journal.read(folder, "wg0", "boot") is None


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*Entry._fields, "schema"]), inner, max_size=6)
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "wg0.json").write_bytes(data)

    found = journal.read(str(folder), "wg0", "boot")

    assert found is None or isinstance(found, Entry)


@pytest.mark.parametrize("what", ["fifo", "directory", "link", "nothing"])
def test_no_plain_file(folder: str, what: str) -> None:
    path = Path(folder, "wg0.json")
    if what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "link":
        Path(folder, "elsewhere").write_text(stored())
        path.symlink_to("elsewhere")

    assert journal.read(folder, "wg0", "boot") is None


def test_a_failed_write_leaves_the_old_one_and_nothing_else(folder: str) -> None:
    journal.write(folder, ENTRY)
    os.mkdir(f"{folder}/wg0.json.new")

    with pytest.raises(OSFailureError):
        journal.write(folder, ENTRY._replace(pid=1))

    assert journal.read(folder, "wg0", "boot") == ENTRY


def test_a_link_where_the_new_one_is_written_is_not_followed(folder: str) -> None:
    victim = Path(folder, "victim")
    victim.write_text("precious")
    Path(folder, "wg0.json.new").symlink_to(victim)

    journal.write(folder, ENTRY)

    assert victim.read_text() == "precious"
    assert journal.read(folder, "wg0", "boot") == ENTRY
    assert sorted(os.listdir(folder)) == ["victim", "wg0.json"]


def test_an_entry_that_says_the_least_is_of_a_start_that_made_nothing_yet(folder: str) -> None:
    """Its defaults claim nothing: no process, no interface, no route, nothing to take back."""
    least = {"schema": journal.SCHEMA, "name": "wg0", "boot_id": "boot", "phase": "starting"}
    Path(folder, "wg0.json").write_text(json.dumps(least))

    found = journal.read(folder, "wg0", "boot")

    assert found is not None
    made = {
        field: value
        for field, value in found._asdict().items()
        if value and field not in ("name", "boot_id", "phase", "hooks")
    }
    assert made == {"backend": "wireguard-go"}
    assert found.hooks == Hooks()


@pytest.mark.parametrize("number", [0, (1 << 31) - 1])
def test_the_smallest_and_the_largest_number_that_the_system_has(folder: str, number: int) -> None:
    entry = ENTRY._replace(pid=number, ifindex=number, mtu=number, full_table=(number << 1) + 1)
    journal.write(folder, entry)

    assert journal.read(folder, "wg0", "boot") == entry


def test_a_journal_of_another_user_is_as_none(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names processes to end and commands to run: whoever writes it is root."""
    journal.write(folder, ENTRY)
    owner = os.stat(f"{folder}/wg0.json").st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    assert journal.read(folder, "wg0", "boot") is None
    assert journal.read_all(folder, "boot") == []


@pytest.mark.parametrize("what", ["whole", "one byte short"])
def test_no_more_is_read_than_the_limit(
    folder: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    journal.write(folder, ENTRY)
    size = os.stat(f"{folder}/wg0.json").st_size
    monkeypatch.setattr(journal, "LIMIT_BYTES", size - (what != "whole"))

    assert journal.read(folder, "wg0", "boot") == (ENTRY if what == "whole" else None)


def test_nothing_is_left_open(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after an entry, nor a bad one, nor a directory, nor a disk that fails."""
    journal.write(folder, ENTRY)
    Path(folder, "bad.json").write_text("{")
    Path(folder, "folder.json").mkdir()
    before = os.listdir("/dev/fd")

    for name in ("wg0", "bad", "folder"):
        journal.read(folder, name, "boot")
    monkeypatch.setattr(os, "read", _fails)
    assert journal.read(folder, "wg0", "boot") is None

    assert os.listdir("/dev/fd") == before


def _fails(*_arguments: object, **_more: object) -> bytes:
    raise OSError(errno.EIO, "Input/output error")


def _fails_namelessly(*_arguments: object, **_more: object) -> None:
    raise OSError("no errno")  # as Python's own checks of a path do


def test_a_full_disk_is_said_with_what_shows_it(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "replace", _fails)
    with pytest.raises(OSFailureError) as failure:
        journal.write(f"{folder}/a b", ENTRY)
    monkeypatch.setattr(journal, "replace", _fails_namelessly)
    with pytest.raises(OSFailureError) as nameless:
        journal.write(folder, ENTRY)

    assert (failure.value.call, failure.value.subject) == ("write", f"{folder}/a b/wg0.json")
    assert (failure.value.errno, nameless.value.errno) == (errno.EIO, 0)
    assert failure.value.cure == f"df '{folder}/a b'"


def test_one_that_can_not_be_removed_is_logged_and_no_failure(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        context, "log", lambda message, *, error=False: logged.append((message, error))
    )
    monkeypatch.setattr(os, "unlink", _fails)

    journal.remove(folder, "wg0")

    assert logged == [(f"{folder}/wg0.json stays: Input/output error", True)]

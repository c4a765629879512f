"""The journal: a cache that may be missing, cut short, forged or of another boot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.config.model import Hooks
from wgsvc.errors import OSFailureError
from wgsvc.supervise import journal
from wgsvc.supervise.journal import Entry
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
    hooks=Hooks(post_down=("echo ü", "b")),
)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> str:
    return str(tmp_path)


def test_round_trip(folder: str) -> None:
    journal.write(folder, ENTRY)

    assert journal.read(folder, "wg0", "boot") == ENTRY
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

"""The journal: a cache that may be missing, cut short, forged or of another boot."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc import lightjson
from wgsvc.config.model import Hooks
from wgsvc.errors import OSFailureError
from wgsvc.supervise import context, journal
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


PIN = [[4, 1, 32], 2, "192.0.2.1", None, False, None, True]


def pin(**changes: Any) -> list[list[Any]]:
    """Return the pins of a journal: one, of which some fields are others."""
    return [[changes.get(field, value) for field, value in zip(Route._fields, PIN, strict=True)]]


FORGED: list[dict[str, Any]] = [
    {"pid": -1},
    {"pid": "4242"},
    {"pid": 1 << 31},
    {"pid": True},
    {"pid": None},
    {"pid": 4.5},
    {"pid": math.inf},
    {"ifindex": -7},
    {"ifindex": "7"},
    {"mtu": []},
    {"mtu": math.inf},
    {"start_id": 99},
    {"path": ["x"]},
    {"path": "/a\0b"},
    {"phase": None},
    {"phase": "asleep"},
    {"backend": "magic"},
    {"backend": []},
    {"surprise": 1},
    {"since": math.inf},
    {"since": math.nan},
    {"since": "now"},
    {"since": 10**400},
    {"since": True},
    {"table": -2},
    {"table": 1 << 32},
    {"table": "7"},
    {"dns": "no"},
    {"dns": 1},
    {"valid_mark": "2"},
    {"kernel_name": "../tun0"},
    {"full_table": -1},
    {"full_table": math.inf},
    {"pins": [["x"]]},
    {"pins": [[]]},
    {"pins": [[[]]]},
    {"pins": 5},
    {"pins": {}},
    {"pins": "[]"},
    {"pins": [PIN[:1]]},
    {"pins": [[*PIN, 1]]},
    {"pins": pin(prefix=[4, 1, 32, 9])},
    {"pins": pin(prefix=[5, 1, 32])},
    {"pins": pin(prefix=[4, 1 << 32, 32])},
    {"pins": pin(prefix=[4, -1, 32])},
    {"pins": pin(prefix=[4, math.inf, 32])},
    {"pins": pin(prefix=[4, 0, 0])},
    {"pins": pin(prefix=[4, 1, 33])},
    {"pins": pin(prefix=["4", 1, 32])},
    {"pins": pin(ifindex=0)},
    {"pins": pin(ifindex="em0")},
    {"pins": pin(gateway="gate.example")},
    {"pins": pin(gateway="1.2.3.999")},
    {"pins": pin(gateway="")},
    {"pins": pin(gateway=7)},
    {"pins": pin(ifindex=None, gateway=None)},
    {"pins": pin(table=-2)},
    {"pins": pin(blackhole="yes")},
    {"pins": pin(mtu=math.nan)},
    {"pins": pin(pin=None)},
    {"hooks": [[], [], [], [], []]},
    {"hooks": 3},
    {"hooks": [[1]]},
    {"hooks": ["true"]},
    {"rules": [[4]]},
    {"rules": [[4, 1, math.inf]]},
    {"rules": [[9, 1, 2]]},
    {"filtered": [5]},
    {"filtered": 4},
    {"name_servers": [[]]},
    {"changes": [None]},
]


@pytest.mark.parametrize("changes", FORGED, ids=str)
def test_a_wrong_field_is_named_and_the_others_can_be_believed(
    folder: str, changes: dict[str, Any]
) -> None:
    path = Path(folder, "wg0.json")
    path.write_text(stored(**changes))
    (field,) = changes

    found = journal.examine(str(path), "wg0", "boot")

    told = "an unknown field" if field == "surprise" else field
    defaults = Entry("wg0", "boot", "starting")._asdict()
    without: dict[str, Any] = {field: defaults[field]} if field in defaults else {}
    assert found.wrong == f"wrong in it: {told}"
    assert found.entry == ENTRY._replace(**without)
    assert journal.read(folder, "wg0", "boot") is None
    assert journal.read_all(folder, "boot") == []


@pytest.mark.parametrize(
    "changes",
    [{"schema": 0}, {"schema": 2}, {"schema": "1"}, {"schema": True}, {"name": "../wg0"},
     {"name": "wg1"}, {"name": None}, {"boot_id": 1}],
    ids=str,
)  # fmt: skip
def test_one_that_is_another_ones_is_wrong_as_a_whole(folder: str, changes: dict[str, Any]) -> None:
    path = Path(folder, "wg0.json")
    path.write_text(stored(**changes))

    found = journal.examine(str(path), "wg0", "boot")

    assert found.wrong
    assert found.entry is None


@pytest.mark.parametrize("field", ["name", "boot_id", "phase"])
def test_one_without_what_it_needs(folder: str, field: str) -> None:
    table = json.loads(stored())
    del table[field]
    Path(folder, "wg0.json").write_text(json.dumps(table))

    assert journal.examine(f"{folder}/wg0.json", "wg0", "boot").wrong
    assert journal.read(folder, "wg0", "boot") is None


def test_every_field_has_its_check() -> None:
    from wgsvc.supervise.journal_fields import CHECKS

    assert set(CHECKS) == set(Entry._fields)


@pytest.mark.parametrize("size", range(0, len(stored()), 17))
def test_cut_short(folder: str, size: int) -> None:
    Path(folder, "wg0.json").write_text(stored()[:size])

    assert journal.read(folder, "wg0", "boot") is None


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([4, 6, 32, 128, "up", "192.0.2.1", "wg0", "boot", 1, 10**400])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.dictionaries(st.sampled_from([*Entry._fields, "schema"]), inner, max_size=6)
    ),
    max_leaves=20,
)
forged = st.dictionaries(st.sampled_from(Entry._fields), anything, max_size=4).map(
    lambda changes: {"schema": 1, **ENTRY._asdict(), **changes}
)


@given(st.binary(max_size=200) | (anything | forged).map(lambda value: json.dumps(value).encode()))
def test_whatever_stands_in_one_nothing_is_raised(data: bytes) -> None:
    found = journal.parsed(data, "wg0", "boot")

    if found.entry is not None:
        assert (found.entry.name, found.entry.boot_id) == ("wg0", "boot")
        again = lightjson.dumps({"schema": journal.SCHEMA, **found.entry._asdict()})
        assert journal.parsed(again.encode(), "wg0", "boot") == journal.Reading(found.entry)


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
    wrong = journal.examine(str(path), "wg0", "boot").wrong
    assert ("not a regular file" in wrong) == (what in ("fifo", "directory"))
    assert bool(wrong) == (what != "nothing")


def test_one_that_is_too_long(folder: str) -> None:
    path = Path(folder, "wg0.json")
    text = stored().encode()
    path.write_bytes(text.ljust(journal.LIMIT_BYTES))
    assert journal.read(folder, "wg0", "boot") == ENTRY
    path.write_bytes(text.ljust(journal.LIMIT_BYTES + 1))
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


# --- setting aside


def test_a_wrong_one_is_set_aside_with_its_reason_and_can_be_salvaged(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(context, "log", lambda line, **_: said.append(line))
    Path(folder, "wg0.json").write_text(stored(pins=[[]]))
    journal.write(folder, ENTRY._replace(name="wg1"))

    assert journal.take(folder, "wg0", "boot").entry == ENTRY._replace(pins=())
    assert journal.take(folder, "wg1", "boot") == journal.Reading(ENTRY._replace(name="wg1"))

    assert sorted(os.listdir(folder)) == ["wg0.json.bad", "wg1.json"]
    assert journal.salvage(folder, "wg0", "boot") == ENTRY._replace(pins=())
    assert journal.salvage(folder, "wg0", "another boot") is None
    assert said == [
        f"wg0: its journal can't be used (wrong in it: pins); it is kept as {folder}/wg0.json.bad"
    ]
    journal.remove(folder, "wg0")
    assert os.listdir(folder) == ["wg1.json"]


def test_those_that_are_set_aside_are_bounded(folder: str) -> None:
    for number in range(journal.BAD_MAX + 3):
        Path(folder, f"wg{number}.json").write_text("{")
        journal.take(folder, f"wg{number}", "boot")
    Path(folder, "wg0.json").write_text("[")
    journal.take(folder, "wg0", "boot")

    assert len(os.listdir(folder)) == journal.BAD_MAX
    assert Path(folder, "wg0.json.bad").read_text() == "["


def test_one_of_another_boot_is_left_alone(folder: str) -> None:
    Path(folder, "wg0.json").write_text(stored(boot_id="earlier", schema=9, pins=[[]]))

    assert journal.take(folder, "wg0", "boot").entry is None
    assert os.listdir(folder) == ["wg0.json"]


def test_what_can_not_be_set_aside_is_said(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(context, "log", lambda line, **_: said.append(line))
    Path(folder, "wg0.json").write_text("{")
    Path(folder, "wg0.json.bad", "in it").mkdir(parents=True)

    assert journal.take(folder, "wg0", "boot").entry is None
    assert "can't be set aside: Is a directory" in said[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to chown")
def test_one_that_somebody_else_owns_is_not_believed(folder: str) -> None:
    journal.write(folder, ENTRY)
    os.chown(f"{folder}/wg0.json", 65534, 65534)

    assert journal.read(folder, "wg0", "boot") is None
    assert journal.examine(f"{folder}/wg0.json", "wg0", "boot").entry is None
    assert journal.take(folder, "wg0", "boot").entry is None
    assert journal.salvage(folder, "wg0", "boot") is None
    assert os.listdir(folder) == ["wg0.json.bad"]


def test_without_a_descriptor_left_a_journal_is_not_to_blame(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(folder, ENTRY)

    def full(*_: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        assert journal.take(folder, "wg0", "boot").entry is None
    assert journal.take(folder, "wg0", "boot") == journal.Reading(ENTRY)

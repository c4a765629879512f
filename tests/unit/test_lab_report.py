"""Drawing, comparison, record and tables of the laboratory: all that needs no network."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from wgsvc.errors import BusyError, NotPermittedError
from wgsvc.lab import network
from wgsvc.lab.check import Check, Shown
from wgsvc.lab.checks import nothing_left_outside, round_trips_ms
from wgsvc.lab.compare import Snapshot, differences
from wgsvc.lab.drawing import MISSING, draw
from wgsvc.lab.linux_holder import Holder
from wgsvc.lab.record import Record, folder_for
from wgsvc.lab.report import Report, as_json

ALL = {(link.host, link.interface): link.address for link in network.LINKS} | {
    (host, "wg0"): address for host, address in network.TUNNEL_ADDRESSES.items()
}


def test_drawing_has_every_address_once() -> None:
    words = " ".join(draw(ALL, network.PORT)).split()
    for address in ALL.values():
        assert words.count(address) == 1, address
    for link in network.LINKS:
        assert link.interface in words


def test_drawing_shows_a_missing_address() -> None:
    lines = draw({where: one for where, one in ALL.items() if where != ("vpnr2", "wg0")}, 51820)
    assert sum(MISSING in line for line in lines) == 1


@pytest.mark.parametrize("addresses", [ALL, {}])
def test_drawing_fits_a_terminal_and_keeps_its_shape(addresses: dict[tuple[str, str], str]) -> None:
    shape = draw(ALL, network.PORT)
    lines = draw(addresses, network.PORT)
    assert max(map(len, lines)) < 80
    for mark in "║│┐┘├":
        assert [line.find(mark) for line in lines] == [line.find(mark) for line in shape]


def test_drawing_without_unicode_is_ascii() -> None:
    assert all(line.isascii() for line in draw(ALL, network.PORT, unicode=False))


def test_difference_names_what_is_left_and_what_is_missing() -> None:
    before = Snapshot(routes=frozenset({"default via a"}), mounts=frozenset({"tmpfs on /run"}))
    after = before._replace(routes=frozenset(), processes=frozenset({"7 wireguard-go"}))
    assert [str(one) for one in differences(before, after)] == [
        "processes: 7 wireguard-go is left",
        "routes: default via a is missing",
    ]
    assert differences(before, before) == []


@pytest.mark.parametrize("subject", Snapshot._fields)
def test_a_leftover_of_any_kind_fails_the_comparison(subject: str) -> None:
    more = Snapshot(**{subject: frozenset({"leftover"})})
    assert not nothing_left_outside(Snapshot(), more).passed
    assert not nothing_left_outside(more, Snapshot()).passed
    assert nothing_left_outside(more, more).passed


def test_record_is_read_back_and_forgotten(tmp_path: Path) -> None:
    folder = str(tmp_path / "lab")
    record = Record(folder)
    assert record.take() == []
    record.write([Holder("r1", 7, "boot/1", ("net:[1]", "mnt:[2]", "uts:[3]"))])
    with pytest.raises(BusyError, match="runs already"):
        Record(folder).take()
    record.release()
    again = Record(folder)
    (entry,) = again.take()
    assert (entry["host"], entry["pid"], entry["start_id"]) == ("r1", 7, "boot/1")
    again.forget()
    assert os.listdir(tmp_path) == []


def test_record_half_written_counts_as_none(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir(mode=0o700)
    (folder / "hosts.json").write_text('{"holders": [{"ho')
    record = Record(str(folder))
    assert record.take() == []
    record.forget()


def test_record_in_a_folder_others_can_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(NotPermittedError):
        Record(str(folder)).take()


def test_record_in_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab").symlink_to(tmp_path)
    with pytest.raises(NotPermittedError):
        Record(str(tmp_path / "lab")).take()


def test_record_of_an_own_run_dir_is_beside_it() -> None:
    assert folder_for("/var/x/run") == "/var/x/run-lab"


def test_ping_times() -> None:
    linux = "64 bytes from 192.168.2.11: icmp_seq=1 ttl=62 time=2.24 ms\n"
    freebsd = "64 bytes from 192.168.2.11: icmp_seq=0 ttl=62 time=8.150 ms\n"
    assert round_trips_ms(linux + freebsd) == [2.24, 8.15]
    assert round_trips_ms("1 packets transmitted, 0 received, 100% packet loss, time 0ms") == []


CHECKS = [
    Check("good", passed=True, measured="2 of 2"),
    Check("bad", passed=False, measured="nothing", shown=(Shown("r1", "ip route", ("line",)),)),
]


def test_table_counts_and_marks() -> None:
    out = io.StringIO()
    Report(out, io.StringIO()).table(CHECKS)
    assert "1 of 2 checks passed" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_narrow_terminal_breaks_between_clauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "62")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    measured = "vi1_r1: type 1: 1, type 2: 1, PLAIN: 0"
    Report(out, io.StringIO()).table([Check("wire", passed=True, measured=measured)])
    assert [line.split("  ")[-1].strip() for line in out.getvalue().splitlines()][1:3] == [
        "vi1_r1: type 1: 1,",
        "type 2: 1, PLAIN: 0",
    ]


def test_json_says_failed_if_one_check_failed() -> None:
    found = as_json("linux", ALL, CHECKS, captures=[], entering={})
    assert (found["schema"], found["passed"], found["kept"]) == (1, False, False)
    assert found["hosts"]["vpnr1"]["wg0"] == "192.168.222.1"
    assert found["checks"][1]["shown"][0]["command"] == "ip route"
    assert as_json("linux", ALL, CHECKS[:1], captures=[], entering={})["passed"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "escapes"), [("", 3), ("1", 0)])
def test_colour_only_on_a_terminal_and_without_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, escapes: int
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    out = Terminal()
    Report(out, io.StringIO()).table(CHECKS)
    assert out.getvalue().count("\x1b[0m") == escapes

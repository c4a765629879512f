"""One destroy step by step, against a kernel that answers as each test says."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.errors import BusyError, NameTakenError, NotPermittedError, OSFailureError, WgsvcError
from wgsvc.system.freebsd import destroy, link
from wgsvc.system.freebsd.destroy import (
    DESTROY,
    GIVE_UP,
    SOMEBODY,
    WAIT,
    Seen,
    Tried,
    decide,
)

CLOSED = Seen("wg0", "tun3")
OWN_NAME = Seen("tun3", "tun3")
LIVE = Seen("wg0", "tun3", opener=555, opener_lives=True)
UNKNOWN = Seen("wg0", "tun3", opener=SOMEBODY)


class Script:
    """What is seen at each look (the last for ever), the errno of each call, and the clock."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, seen: list[Seen | None], errors: list[int]
    ) -> None:
        self._seen, self._errors = seen, errors
        self.done: list[str] = []
        self.looked: list[str] = []
        self.slept: list[float] = []
        clock = SimpleNamespace(monotonic=lambda: sum(self.slept), sleep=self.slept.append)
        monkeypatch.setattr(destroy, "time", clock)
        monkeypatch.setattr(destroy, "look", self._look)
        monkeypatch.setattr(destroy, "destroy_now", self._destroy)
        monkeypatch.setattr(link, "rename", self._rename)

    def _look(self, _kernel: object, name: str, ifindex: int) -> Seen | None:
        assert ifindex == 7
        self.looked.append(name)
        return self._seen.pop(0) if len(self._seen) > 1 else self._seen[0]

    def _answer(self, call: str) -> None:
        number = self._errors.pop(0) if self._errors else 0
        if number == errno.EEXIST:
            raise NameTakenError("taken")
        if number:
            raise OSFailureError(call, "", number)

    def _destroy(self, _kernel: object, name: str) -> None:
        self.done.append(f"destroy {name}")
        self._answer("SIOCIFDESTROY")

    def _rename(self, _kernel: object, old: str, new: str) -> None:
        self.done.append(f"{old} -> {new}")
        self._answer("SIOCSIFNAME")

    def destroy(self, *wait_s: float) -> WgsvcError | None:
        """Destroy wg0, which is interface 7; return what was raised."""
        try:
            destroy.destroy(cast("Any", None), "wg0", 7, *wait_s)
        except WgsvcError as error:
            return error
        return None


def test_what_is_gone_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [None], [])

    assert script.destroy() is None
    assert (script.done, script.slept) == ([], [])


def test_what_was_destroyed_and_is_still_there_is_waited_for_and_destroyed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script(monkeypatch, [CLOSED, CLOSED, CLOSED, None], [0, 0])

    assert script.destroy() is None
    assert script.done == ["destroy wg0", "destroy wg0"]
    assert len(script.slept) == 1
    assert 0.0 < script.slept[0] <= 0.1  # for milliseconds: nobody is to feel it


def test_what_is_open_is_looked_at_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destroy, "POLL_S", 0.25)
    script = Script(monkeypatch, [UNKNOWN], [])

    error = script.destroy(0.5)

    assert isinstance(error, BusyError)
    assert error.message == "wg0 is still open in a process that can't be named"
    assert error.cure == "find who has it open: fstat | grep tun3"
    assert script.done == []
    assert script.slept == [0.25, 0.25]


def test_if_nothing_is_said_it_is_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [UNKNOWN], [])

    assert isinstance(script.destroy(), BusyError)
    assert 1.9 < sum(script.slept) < 2.1


def test_one_that_is_closed_too_late_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its destroy could take as long again."""
    monkeypatch.setattr(destroy, "POLL_S", 0.25)
    script = Script(monkeypatch, [UNKNOWN, CLOSED], [])

    error = script.destroy(0.25)

    assert isinstance(error, BusyError)
    assert error.message == "wg0 was closed too late; it is not destroyed"
    assert error.cure == "to try again: wgsvc stop wg0"
    assert (script.done, script.slept) == ([], [0.25])


def test_one_that_stays_although_it_was_destroyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destroy, "POLL_S", 0.25)
    script = Script(monkeypatch, [CLOSED], [])

    error = script.destroy(0.25)

    assert isinstance(error, BusyError)
    assert error.message == "SIOCIFDESTROY wg0: the kernel said yes, but it is still there"
    assert error.cure == "to try again: wgsvc stop wg0"
    assert (script.done, script.slept) == (["destroy wg0"], [0.25])


def test_a_live_process_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Script(monkeypatch, [LIVE], []).destroy()

    assert isinstance(error, BusyError)
    assert error.message == ("wg0 is open in process 555; destroying it now blocks the whole host")
    assert error.cure == "end process 555, then: ifconfig wg0 destroy"


def test_another_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Script(monkeypatch, [Seen("wg0", "epair3")], []).destroy()

    assert isinstance(error, NotPermittedError)
    assert error.message == "wg0 is of the driver epair, not a tunnel; left alone"


def test_by_its_own_unit_and_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [CLOSED, CLOSED, OWN_NAME, None], [errno.EINVAL, 0, 0])

    assert script.destroy() is None
    assert script.done == ["destroy wg0", "wg0 -> tun3", "destroy tun3"]
    assert script.looked == ["wg0", "wg0", "tun3", "tun3"]


def test_one_that_stays_gets_its_name_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next stop looks for it under the name it had."""
    script = Script(monkeypatch, [CLOSED, CLOSED, OWN_NAME], [errno.EINVAL, 0, errno.EPERM, 0])

    error = script.destroy()

    assert script.done == ["destroy wg0", "wg0 -> tun3", "destroy tun3", "tun3 -> wg0"]
    assert isinstance(error, NotPermittedError)
    assert (error.message, error.cure) == ("SIOCIFDESTROY wg0: not permitted", "run as root")


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EBUSY])
def test_a_rename_that_fails_is_the_last_thing_tried(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    script = Script(monkeypatch, [CLOSED], [errno.EINVAL, number])

    error = script.destroy()

    assert script.done == ["destroy wg0", "wg0 -> tun3"]
    assert script.looked == ["wg0", "wg0", "wg0"]
    assert isinstance(error, OSFailureError)
    assert (error.call, error.subject, error.errno) == ("SIOCSIFNAME", "wg0 -> tun3", number)


def test_one_of_the_hosts_says_how_the_host_gets_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destroy, "POLL_S", 1.0)
    error = Script(monkeypatch, [CLOSED], [errno.ENXIO] * 9).destroy()

    assert isinstance(error, OSFailureError)
    assert error.errno == errno.ENXIO
    assert error.cure == ("it was made outside of this jail; on the host: ifconfig wg0 -vnet JAIL")


def test_any_other_errno_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [CLOSED], [errno.EIO])
    error = script.destroy()

    assert isinstance(error, OSFailureError)
    assert (error.errno, error.cure, script.slept) == (errno.EIO, "", [])


# --- what a look finds


@pytest.mark.parametrize(
    ("opener", "lives"), [(0, False), (SOMEBODY, False), (1, True), (555, True), (556, False)]
)
def test_a_process_is_asked_for_its_life_only_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, opener: int, *, lives: bool
) -> None:
    """kill(0) would reach our own process group, kill(-1) everybody."""
    asked: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert number == 0
        asked.append(pid)
        if pid == 556:
            raise ProcessLookupError
        if pid == 1:
            raise PermissionError

    monkeypatch.setattr(link, "index_of", lambda _kernel, _name: 7)
    monkeypatch.setattr(link, "driver_unit", lambda _kernel, _ifindex: "tun3")
    monkeypatch.setattr(link, "opener", lambda _kernel, _name: opener)

    seen = destroy.look(cast("Any", SimpleNamespace(kill=kill)), "wg0", 7)

    assert seen == Seen("wg0", "tun3", opener, lives)
    assert asked == ([opener] if opener > 0 else [])


@pytest.mark.parametrize(
    ("unit", "driver"), [("tun3", "tun"), ("wg10", "wg"), ("tunX3", "tunX"), ("epair0a", "epair0a")]
)
def test_the_driver_of_a_unit(unit: str, driver: str) -> None:
    assert Seen("x", unit).driver == driver


# --- what follows


@pytest.mark.parametrize(
    ("seen", "last", "action"),
    [
        (Seen("wg0", "tun3", 1, opener_lives=True), None, GIVE_UP),
        (Seen("wg0", "tun3", 0, opener_lives=True), None, DESTROY),
        (Seen("wg0", "tun3", SOMEBODY, opener_lives=True), None, WAIT),
        (Seen("wg0", "wg3"), Tried(DESTROY, errno.EINVAL), GIVE_UP),
    ],
)
def test_a_life_without_a_process_and_a_wg_without_its_name(
    seen: Seen, last: Tried | None, action: str
) -> None:
    assert decide(seen, last, in_time=True) == action


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Seen("wg0", "tun3", 1, opener_lives=True), "process 1;"),
        (Seen("wg0", "tun3", SOMEBODY, opener_lives=True), "can't be named"),
        (Seen("wg0", "tun3", 0, opener_lives=True), "SIOCIFDESTROY"),
    ],
)
def test_who_is_said_to_have_it(seen: Seen, said: str) -> None:
    assert said in destroy._why(seen, None, 0).message

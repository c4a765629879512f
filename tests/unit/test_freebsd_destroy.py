"""What follows from what was tried: the decision table, then the decisions on each kernel."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_programs import ExitedError, WireguardGo, ifconfig_name
from tests.models.freebsd_vnet import Machine, Vnet
from wgsvc.errors import BusyError, NotPermittedError, OSFailureError, WgsvcError
from wgsvc.system.freebsd import destroy, link
from wgsvc.system.freebsd.destroy import (
    DESTROY,
    GIVE_UP,
    NOTHING_LEFT,
    RENAME_BACK,
    SOMEBODY,
    WAIT,
    Seen,
    Tried,
    decide,
)
from wgsvc.system.freebsd.system import FreeBSD

if TYPE_CHECKING:
    from pathlib import Path

    from wgsvc.system.base import Tun

CLOSED = Seen("wg0", "tun3")
OWN_NAME = Seen("tun3", "tun3")
LIVE = Seen("wg0", "tun3", opener=555, opener_lives=True)
ENDED = Seen("wg0", "tun3", opener=555)
UNKNOWN = Seen("wg0", "tun3", opener=SOMEBODY)
KERNEL_WG = Seen("wg0", "wg0")
FOREIGN = Seen("wg0", "epair0")

TABLE = [
    # what is there, what was tried last, next in time, next out of time
    (None, None, NOTHING_LEFT, NOTHING_LEFT),
    (None, Tried(DESTROY, errno.ENXIO), NOTHING_LEFT, NOTHING_LEFT),
    (None, Tried(RENAME_BACK), NOTHING_LEFT, NOTHING_LEFT),
    (FOREIGN, None, GIVE_UP, GIVE_UP),
    (LIVE, None, GIVE_UP, GIVE_UP),
    (LIVE, Tried(WAIT), GIVE_UP, GIVE_UP),
    (LIVE, Tried(RENAME_BACK), GIVE_UP, GIVE_UP),
    (ENDED, None, WAIT, GIVE_UP),
    (ENDED, Tried(WAIT), WAIT, GIVE_UP),
    (UNKNOWN, None, WAIT, GIVE_UP),
    (UNKNOWN, Tried(DESTROY, errno.EINTR), WAIT, GIVE_UP),
    (CLOSED, None, DESTROY, DESTROY),
    (KERNEL_WG, None, DESTROY, DESTROY),
    (CLOSED, Tried(WAIT), DESTROY, GIVE_UP),
    (CLOSED, Tried(DESTROY, errno.EINVAL), RENAME_BACK, RENAME_BACK),
    (OWN_NAME, Tried(DESTROY, errno.EINVAL), GIVE_UP, GIVE_UP),
    (KERNEL_WG, Tried(DESTROY, errno.EINVAL), GIVE_UP, GIVE_UP),
    (CLOSED, Tried(DESTROY), WAIT, GIVE_UP),
    (CLOSED, Tried(DESTROY, errno.EINTR), WAIT, GIVE_UP),
    (CLOSED, Tried(DESTROY, errno.ENXIO), WAIT, GIVE_UP),
    (CLOSED, Tried(DESTROY, errno.EPERM), GIVE_UP, GIVE_UP),
    (OWN_NAME, Tried(RENAME_BACK), DESTROY, DESTROY),
    (CLOSED, Tried(RENAME_BACK, errno.EEXIST), GIVE_UP, GIVE_UP),
]


@pytest.mark.parametrize(("seen", "last", "in_time", "too_late"), TABLE)
def test_the_table(seen: Seen | None, last: Tried | None, in_time: str, too_late: str) -> None:
    assert decide(seen, last, in_time=True) == in_time
    assert decide(seen, last, in_time=False) == too_late


@given(
    seen=st.builds(
        Seen,
        name=st.sampled_from(["wg0", "tun3"]),
        unit=st.sampled_from(["tun3", "wg0", "epair1", ""]),
        opener=st.sampled_from([0, 1, 555, SOMEBODY]),
        opener_lives=st.booleans(),
    ),
    last=st.none()
    | st.builds(
        Tried,
        st.sampled_from([DESTROY, WAIT, RENAME_BACK]),
        st.sampled_from([0, *errno.errorcode]),
    ),
    times=st.sampled_from(["in time", "too late"]),
)
def test_never_a_destroy_or_a_rename_of_what_is_open_or_foreign(
    seen: Seen, last: Tried | None, times: str
) -> None:
    action = decide(seen, last, in_time=times == "in time")
    if action in (DESTROY, RENAME_BACK):
        assert seen.opener == 0
        assert seen.unit in ("tun3", "wg0")
    if action == RENAME_BACK:
        assert seen.unit == "tun3"
    if times == "too late":
        assert action != WAIT


# --- on each kernel


class Place:
    """A VNET jail (or the host) of a model, and a System in it."""

    def __init__(self, flavour: str, *, jailed: bool = True, hides_tun: bool = False) -> None:
        self.machine = Machine(FLAVOURS[flavour])
        self.vnet: Vnet = self.machine.jail("a") if jailed else self.machine.host
        self.kernel = ModelKernel(self.vnet, hides_tun=hides_tun)
        self.system = FreeBSD(self.kernel)

    def destroy(self, tun: Tun, wait_s: float = 0.1) -> None:
        destroy.destroy(self.kernel, tun.name, tun.ifindex, wait_s)


@pytest.fixture(name="place", params=[*FLAVOURS, "12.0 host", "13.2 host", "15 host"])
def _place(request: pytest.FixtureRequest) -> Place:
    flavour, _space, where = request.param.partition(" ")
    return Place(flavour, jailed=not where)


def test_a_closed_one_goes(place: Place) -> None:
    tun = place.system.create_tun("wg0")
    os.close(tun.fd)
    place.destroy(tun)
    assert place.vnet.by_name("wg0") is None
    assert place.machine.devices == {}


def test_12_0_in_a_jail_goes_by_its_own_unit() -> None:
    place = Place("12.0")
    place.machine.create_tun(place.machine.host, None, None)  # so ours is tun1
    tun = place.system.create_tun("wg0")
    assert tun.kernel_name == "tun1"
    os.close(tun.fd)
    place.kernel.calls.clear()
    place.destroy(tun)
    changes = [call for call in place.kernel.calls if not call[0].startswith("SIOCG")]
    assert changes == [
        ("SIOCIFDESTROY", "wg0"),
        ("SIOCSIFNAME", "wg0"),
        ("SIOCIFDESTROY", "tun1"),
    ]
    assert place.vnet.by_name("tun1") is None
    assert place.machine.host.by_name("tun0") is not None


def test_12_0_is_never_asked_for_the_status() -> None:
    place = Place("12.0")
    tun = place.system.create_tun("wg0")
    place.system.interfaces()
    os.close(tun.fd)
    place.destroy(tun)
    assert "SIOCGIFSTATUS" not in {name for name, _subject in place.kernel.calls}


def test_12_0_keeps_the_name_when_its_unit_is_taken() -> None:
    place = Place("12.0")
    tun = place.system.create_tun("wg0")
    os.close(tun.fd)
    foreign = place.machine.create_tun(place.vnet, None, None)
    foreign.name = tun.kernel_name  # somebody renamed theirs to our unit
    with pytest.raises(OSFailureError, match="SIOCSIFNAME") as caught:
        place.destroy(tun)
    assert caught.value.errno == errno.EEXIST
    assert link.index_of(place.kernel, "wg0") == tun.ifindex
    assert place.vnet.by_name(tun.kernel_name) is foreign


def test_an_open_one_is_left_and_its_holder_named(place: Place, tmp_path: Path) -> None:
    tun = place.system.create_tun("wg0")
    daemon = WireguardGo(place.vnet, "wg0", tmp_path, descriptor=tun.fd)
    os.close(tun.fd)
    place.kernel.calls.clear()
    with pytest.raises(BusyError) as caught:
        place.destroy(tun)
    if place.machine.flavour.status_is_safe:
        assert str(daemon.pid) in caught.value.message
    assert not {"SIOCIFDESTROY", "SIOCSIFNAME"} & {name for name, _subject in place.kernel.calls}
    assert place.vnet.by_name("wg0") is not None
    daemon.terminate()


def test_one_held_by_a_process_that_is_not_its_opener_is_left(place: Place, tmp_path: Path) -> None:
    """The controlling process has ended, but a copy lives on, as in a supervisor."""
    tun = place.system.create_tun("wg0")
    WireguardGo(place.vnet, "wg0", tmp_path, descriptor=tun.fd).send(signal.SIGKILL)
    with pytest.raises(BusyError, match="can't be named"):
        place.destroy(tun)
    os.close(tun.fd)
    place.destroy(tun)
    assert place.vnet.by_name("wg0") is None


def test_a_name_that_passed_to_another_is_left(place: Place) -> None:
    tun = place.system.create_tun("wg0")
    os.close(tun.fd)
    if place.vnet.by_name("wg0") is not None:
        ifconfig_name(place.vnet, "wg0", "mine")
    place.machine.settle()
    other = place.machine.create_tun(place.vnet, None, None)
    ifconfig_name(place.vnet, other.name, "wg0")
    if other.ifindex == tun.ifindex:  # the number came back: the name and number fit again
        return
    place.destroy(tun)
    assert place.vnet.by_name("wg0") is other


def test_a_foreign_driver_is_left(place: Place) -> None:
    with pytest.raises(NotPermittedError, match="lo"):
        destroy.destroy(place.kernel, "lo0", 1)
    assert place.vnet.by_name("lo0") is not None


def test_a_tun_of_the_hosts_in_a_13_jail_says_where_to_destroy_it() -> None:
    place = Place("13.2")
    interface = place.machine.create_tun(place.machine.host, None, None)
    place.machine.move(interface, place.vnet)
    with pytest.raises(OSFailureError, match="ENXIO") as caught:
        destroy.destroy(place.kernel, interface.name, interface.ifindex, 0.1)
    assert "-vnet" in caught.value.cure


def test_a_tun_of_the_hosts_in_a_15_jail_goes() -> None:
    place = Place("15")
    interface = place.machine.create_tun(place.machine.host, None, None)
    place.machine.move(interface, place.vnet)
    destroy.destroy(place.kernel, interface.name, interface.ifindex, 0.1)
    assert place.vnet.by_name(interface.name) is None


def test_a_hidden_device_on_12_0_counts_as_open() -> None:
    place = Place("12.0", hides_tun=True)
    interface = place.machine.create_tun(place.vnet, None, None)
    with pytest.raises(BusyError):
        destroy.destroy(place.kernel, interface.name, interface.ifindex, 0.1)
    assert place.vnet.by_name(interface.name) is interface


# --- any order of events


STEPS = ("create", "spawn", "kill", "term", "close", "destroy", "foreign", "theirs", "rename")


@settings(max_examples=300, deadline=None)
@given(
    flavour=st.sampled_from([*FLAVOURS]),
    where=st.sampled_from(["host", "jail"]),
    steps=st.lists(st.sampled_from(STEPS), max_size=20),
)
def test_any_order_blocks_nothing_and_leaves_nothing(
    flavour: str, where: str, steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """
    WouldBlockForever and KernelPanic are not caught: either fails the test.

    `close` is ours, and comes before any `term`, as the supervisor has it.
    """
    story = Story(Place(flavour, jailed=where == "jail"), tmp_path_factory.mktemp("run"))
    for step in steps:
        getattr(story, step)()
    story.end()
    assert story.ours() == []
    assert story.foreign_ones == story.foreign_there()


class Story:
    """Our tunnel, other people's interfaces, and what happens to them."""

    def __init__(self, place: Place, sockets: Path) -> None:
        self.place = place
        self.sockets = sockets
        self.tun: Tun | None = None
        self.descriptor = -1
        self.daemon: WireguardGo | None = None
        self.foreign_ones: list[str] = []

    def foreign_there(self) -> list[str]:
        return [name for name in self.foreign_ones if self.place.vnet.by_name(name) is not None]

    def ours(self) -> list[str]:
        mine = [one for one in self.place.vnet.interfaces.values() if one.driver == "tun"]
        return [one.name for one in mine if one.name not in self.foreign_ones]

    def create(self) -> None:
        if self.tun is not None:
            return
        self.tun = self.place.system.create_tun("wg0")
        self.descriptor = self.tun.fd

    def spawn(self) -> None:
        if self.descriptor >= 0 and self.daemon is None and self.tun is not None:
            self.daemon = WireguardGo(
                self.place.vnet, self.tun.name, self.sockets, descriptor=self.descriptor
            )

    def kill(self) -> None:
        if self.daemon is not None:
            self.daemon.send(signal.SIGKILL)
            self.daemon = None

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1
        self.place.machine.settle()

    def term(self) -> None:
        self.close()
        if self.daemon is not None:
            self.daemon.terminate()
            assert self.daemon.state == "exited"
            self.daemon = None

    def destroy(self) -> None:
        if self.tun is None:
            return
        try:
            self.place.destroy(self.tun, 0.0)
        except BusyError:
            assert self.descriptor >= 0 or self.daemon is not None
            return
        self.tun = None

    def foreign(self) -> None:
        interface = self.place.machine.create_tun(self.place.vnet, None, None)
        self.foreign_ones.append(interface.name)

    def theirs(self) -> None:
        try:
            WireguardGo(self.place.vnet, "wg0", self.sockets).terminate()
        except ExitedError:
            return
        for name in self.ours():  # on 12.0 theirs can't destroy what it made
            ifconfig_name(self.place.vnet, name, f"left{len(self.foreign_ones)}")
            self.foreign_ones.append(f"left{len(self.foreign_ones)}")

    def rename(self) -> None:
        """Somebody renames one of theirs to a name of ours, if it is free."""
        there = self.foreign_there()
        if there and self.tun is None and self.place.vnet.by_name("wg0") is None:
            ifconfig_name(self.place.vnet, there[0], "renamed")
            ifconfig_name(self.place.vnet, "renamed", there[0])

    def end(self) -> None:
        self.kill()
        self.close()
        if self.tun is not None:
            try:
                self.place.destroy(self.tun)
            except WgsvcError as error:
                pytest.fail(f"{error} (cure: {error.cure})")


def test_a_destroy_that_had_no_effect_has_no_errno() -> None:
    told = destroy._why(CLOSED, Tried(WAIT), 0)

    assert isinstance(told, BusyError)
    assert "still there" in told.message
    assert "EBUSY" not in told.message

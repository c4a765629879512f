"""Starts, stops, crashes, kills and other people, in any order, on three kernels."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_programs import WireguardGo
from tests.models.freebsd_vnet import Interface
from tests.models.supervisors import ALLOWED, FOREVER, NAME, Supervisor, World
from wgsvc.errors import WgsvcError

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = ("start", "stop", "crash", "ended by others", "kill", "foreign tun", "taken", "destroyed")
LIVES = st.one_of(st.just(FOREVER), st.integers(0, 60))


def supervisor_of(world: World) -> Supervisor:
    """Return the supervisor; a new one adopts first."""
    if world.supervisor is None:
        world.supervisor = Supervisor(world)
        world.supervisor.do(world.supervisor.adopt())
    return world.supervisor


class Story:
    """What happens in a world, and what others made in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.before = dict(world.jail.interfaces)
        self.foreign: list[tuple[Interface, int, str]] = []

    def happen(self, event: str, lives: int) -> None:
        """Let one thing happen; the supervisor dies at its `lives`-th call."""
        world = self.world
        if event in ("start", "stop"):
            supervisor = supervisor_of(world)
            supervisor.kernel.lives = lives
            # Refused or failed: what was done must be undone all the same.
            with contextlib.suppress(WgsvcError):
                supervisor.do(supervisor.start() if event == "start" else supervisor.stop())
            self.rest(supervisor)
        elif event == "kill":
            if world.supervisor is not None:
                world.supervisor.die()
        elif event in ("crash", "ended by others"):
            self.end_a_daemon(event, lives)
        elif event == "foreign tun":
            self.note(world.machine.create_tun(world.other, None, None))
        elif event == "taken":
            self.take_the_name()
        elif event == "destroyed":
            self.destroy_by_hand()
        assert world.machine.disasters == []

    def rest(self, supervisor: Supervisor) -> None:
        """End a supervisor without a tunnel, as it does itself."""
        supervisor.kernel.lives = FOREVER if self.world.supervisor is supervisor else 0
        if self.world.supervisor is supervisor and supervisor.live is None:
            supervisor.die()

    def end_a_daemon(self, event: str, lives: int) -> None:
        world = self.world
        for process in world.running()[:1]:
            supervisor = world.supervisor
            if event == "crash":
                process.send(9)
            else:
                process.terminate(supervisor.watch_fires if supervisor else lambda: None)
            world.told()
            if supervisor is not None:
                supervisor.kernel.lives = lives
                with contextlib.suppress(WgsvcError):
                    supervisor.do(supervisor.notice())
                self.rest(supervisor)

    def take_the_name(self) -> None:
        """Make an interface with the name, as anybody may, if there is none."""
        if self.world.jail.by_name(NAME) is None and not self.world.running():
            interface = Interface(self.world.jail, NAME, "epair", 0, 0)
            self.world.jail.attach(interface)
            self.note(interface)

    def destroy_by_hand(self) -> None:
        """Remove a tunnel that nobody has open, as administrators do."""
        found = self.world.jail.by_name(NAME)
        if found is not None and found.tun is not None and not found.tun.is_open:
            self.world.machine.remove(found)

    def note(self, interface: Interface) -> None:
        self.foreign.append((interface, interface.ifindex, interface.name))

    def end(self) -> None:
        """Stop; then nothing of ours may be there, and all of the others'."""
        for _ in range(2):
            supervisor = supervisor_of(self.world)
            supervisor.kernel.lives = FOREVER
            try:
                supervisor.do(supervisor.stop())
            except WgsvcError as error:
                pytest.fail(f"stop: {error.message}")
            self.rest(supervisor)
        world = self.world
        assert world.machine.disasters == []
        assert world.running() == []
        others = [interface for interface, _, _ in self.foreign if interface.vnet is world.jail]
        left = [one for one in world.jail.interfaces.values() if one not in others]
        # Killed in the one call between creation and mark: nothing proves whose that is.
        unmarked = [one for one in left if one.driver == "tun" and not one.description]
        assert len(unmarked) <= world.unmarked
        assert [one for one in left if one not in unmarked] == list(self.before.values())
        for interface, ifindex, name in self.foreign:
            assert interface.vnet.by_index(ifindex) is interface
            assert interface.name == name
        assert list(world.sockets.iterdir()) == []
        assert os.listdir(world.settings.run_dir) == []


def worlds(flavour: str) -> Iterator[World]:
    folder = tempfile.mkdtemp(prefix="wgsvc-model-")
    with pytest.MonkeyPatch.context() as monkeypatch:
        try:
            yield World(flavour, folder, monkeypatch)
        finally:
            shutil.rmtree(folder)


@pytest.mark.parametrize("flavour", sorted(FLAVOURS))
@settings(max_examples=150, deadline=None)
@given(events=st.lists(st.tuples(st.sampled_from(EVENTS), LIVES), max_size=8))
def test_whatever_happens_nothing_is_left_and_nobody_is_hurt(
    flavour: str, events: list[tuple[str, int]]
) -> None:
    for world in worlds(flavour):
        story = Story(world)
        for event, lives in events:
            story.happen(event, lives)
        story.end()


@pytest.mark.parametrize("flavour", sorted(FLAVOURS))
def test_killed_at_every_single_call_the_next_start_works(flavour: str) -> None:
    for lives in range(200):
        for world in worlds(flavour):
            story = Story(world)
            story.happen("start", lives)
            finished = world.supervisor is not None
            story.happen("start", FOREVER)
            assert up(world), lives
            story.end()
        if finished:
            assert lives > 20
            return
    pytest.fail("it never came to its end")


@pytest.mark.parametrize("flavour", sorted(FLAVOURS))
def test_killed_at_every_call_of_a_stop_the_next_one_ends_it(flavour: str) -> None:
    for lives in range(100):
        for world in worlds(flavour):
            story = Story(world)
            story.happen("start", FOREVER)
            story.happen("stop", lives)
            story.end()


def up(world: World) -> bool:
    """Whether the tunnel is whole: one wireguard-go, bound, with keys; addresses and routes."""
    found = world.jail.by_name(NAME)
    (process,) = world.running()
    process.read_events()
    keys = {key for key, hops in world.jail.fibs[0].items() if hops[0].ifindex == found.ifindex}  # type: ignore[union-attr]
    routed = all(
        any(key[2] == one.length and key[1] == one.address for key in keys) for one in ALLOWED
    )
    return bool(found and found.mtu == 1400 and process.bound and process.configured and routed)


def test_a_wireguard_go_of_others_is_left() -> None:
    for world in worlds("13.2"):
        story = Story(world)
        theirs = WireguardGo(world.jail, NAME, world.sockets)
        world.daemons[theirs.pid] = theirs
        shown = dict(vars(theirs.interface)) if theirs.interface else {}
        story.happen("start", FOREVER)
        assert theirs.state == "running"
        assert theirs.interface is not None
        assert vars(theirs.interface) == shown
        theirs.terminate()

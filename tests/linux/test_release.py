"""Closing our copy of a tun: over when nobody finds the interface, and never a hang."""

from __future__ import annotations

import _thread
import os
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tests.contract.world import prefix
from wgsvc.config.model import Tunnel
from wgsvc.loop import Loop
from wgsvc.supervise import release
from wgsvc.supervise.live import Live
from wgsvc.system.linux.system import Linux
from wgsvc.values import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.supervise.context import Context

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("own_network")]

NAME = "wgrel0"
DEADLINE_S = 10.0


@pytest.fixture(name="context")
def _context() -> Iterator[Context]:
    loop = Loop()
    yield cast("Context", SimpleNamespace(loop=loop, system=Linux()))
    loop.close()
    settled()


@pytest.fixture(name="live")
def _live(context: Context) -> Iterator[Live]:
    live = Live(Tunnel(name=NAME))
    live.tun = context.system.create_tun(NAME)
    live.ifindex = live.tun.ifindex
    context.system.add_addresses(NAME, [prefix("198.18.9.1/24")])
    context.system.set_up(NAME)
    context.system.add_routes([Route(prefix("198.18.10.0/24"), ifindex=live.ifindex)])
    yield live
    live.let_go()


def settled() -> None:
    """Wait until no closing thread is left: the next test's own_network forks."""
    deadline = time.monotonic() + DEADLINE_S
    while len(os.listdir("/proc/self/task")) > threading.active_count():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_nothing_is_seen_of_it_any_more(context: Context, live: Live) -> None:
    context.loop.run(release.after_exit(context, live))
    assert not live.holds
    assert context.system.interface(NAME) is None
    assert not os.path.exists(f"/sys/class/net/{NAME}")
    assert "198.18.10.0/24" not in [str(route.prefix) for route in context.system.routes()]
    again = context.system.create_tun(NAME)
    assert again.ifindex != live.ifindex
    os.close(again.fd)


def test_another_copy_keeps_the_interface_and_nobody_waiting(context: Context, live: Live) -> None:
    assert live.tun is not None
    copy = os.dup(live.tun.fd)
    try:
        context.loop.run(release.after_exit(context, live))
        found = context.system.interface(NAME)
        assert found is not None
        assert found.ifindex == live.ifindex
    finally:
        os.close(copy)


def test_without_a_thread_it_waits(context: Context, live: Live) -> None:
    before = _thread.stack_size(1 << 46)  # more than there is address space for
    try:
        with pytest.raises(RuntimeError):
            _thread.start_new_thread(settled, ())
        context.loop.run(release.after_exit(context, live))
    finally:
        _thread.stack_size(before)
    assert context.system.interface(NAME) is None
    assert not live.holds

"""The order of reloads: one after the other, and within one what comes before what goes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.config.model import Tunnel as File
from wgsvc.loop import Future, Loop
from wgsvc.plan import steps
from wgsvc.plan.reload import Difference
from wgsvc.supervise import device, network, reload
from wgsvc.supervise.context import Timings
from wgsvc.supervise.live import Live
from wgsvc.supervise.tunnel import Request, Tunnel
from wgsvc.uapi.encode import DeviceChange
from wgsvc.values import Prefix, Route

NET, OTHER = Prefix(4, 10 << 24, 24), Prefix(4, 11 << 24, 24)


@pytest.fixture(name="loop")
def _loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_one_reload_begins_when_the_one_before_has_ended(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once would compare with what the other is about to change."""
    events: list[str] = []
    ends: dict[str, Future[None]] = {name: loop.future() for name in ("one", "two", "three")}

    async def do(_context: object, _live: Live, file: File, *_more: object) -> str:
        events.append(f"{file.path} begins")
        await ends[file.path]
        events.append(f"{file.path} ends")
        return f"{file.path} done"

    monkeypatch.setattr(reload, "reload", do)
    settings = SimpleNamespace(step_timeout_s=1.0)
    context = cast("Any", SimpleNamespace(loop=loop, settings=settings))
    tunnel = Tunnel(context, "wg0", lambda _tunnel: None)
    tunnel.state, tunnel.live = "up", Live(File("wg0"))

    async def main() -> list[str]:
        asked = []
        for name in ends:
            request = Request(loop.future(), events.append, Timings(), File("wg0", path=name))
            tunnel.post("RELOAD", request)
            asked.append(request.outcome)
        for name, end in ends.items():
            for _ in range(5):
                await loop.sleep(0.0)  # whoever could begin has had its turn
            events.append(f"{name} may end")
            end.set(None)
        return [await outcome for outcome in asked]

    assert loop.run(main()) == ["one done", "two done", "three done"]
    assert events == [
        "one begins",
        "one may end",
        "one ends",
        "two begins",
        "two may end",
        "two ends",
        "three begins",
        "three may end",
        "three ends",
    ]


def test_what_comes_is_there_before_what_goes_is_gone(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Pins, additions, routes that go, the device, the rest that goes.

    A pin after the routes would let WireGuard's own packets into the tunnel. A route that goes
    after its AllowedIPs would after a crash in between be taken for somebody else's.
    """
    done: list[str] = []

    async def perform(_context: object, _live: object, step: steps.Step, *_more: object) -> None:
        done.append(type(step).__name__)

    async def configure(*_any: object) -> None:
        done.append("device")

    monkeypatch.setattr(reload, "perform", perform)
    monkeypatch.setattr(device, "configure", configure)
    monkeypatch.setattr(network, "repin", lambda *_any: done.append("pins"))
    context = cast("Any", SimpleNamespace(loop=loop, settings=SimpleNamespace(), full_tables={}))
    found = Difference(
        (steps.AddAddress("wg0", NET), steps.AddRoutes("wg0", (Route(NET),))),
        DeviceChange(fwmark=0),
        (steps.DeleteAddress("wg0", OTHER), steps.DeleteRoutes("wg0", (Route(OTHER),))),
    )

    loop.run(reload._apply(context, Live(File("wg0")), found, File("wg0")))

    assert done == ["pins", "AddAddress", "AddRoutes", "DeleteRoutes", "device", "DeleteAddress"]

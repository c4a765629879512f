"""Letting go of tuns when wireguard-go's folder changes, or is removed under the watch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.contract.world import model_system
from wgsvc.settings import Settings
from wgsvc.supervise.daemon import Daemon
from wgsvc.supervise.kept import keep

if TYPE_CHECKING:
    from wgsvc.supervise.tunnel import Tunnel


class Held:
    """Stands for what a supervisor has of a tunnel: a tun that it holds, a wireguard-go."""

    def __init__(self) -> None:
        self.holds = True
        self.daemon = object()

    def let_go(self) -> None:
        self.holds = False


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return tmp_path / "wireguard"


@pytest.fixture(name="daemon")
def _daemon(tmp_path: Path, folder: Path) -> Any:
    settings = Settings(uapi_dir=str(folder), run_dir=str(tmp_path / "run"))
    daemon = Daemon(settings, model_system("13.2"))
    yield daemon
    for each in (daemon.context.children._wake, daemon.context.children._bell):
        each.close()
    if daemon.context.hold_watch is not None:
        os.close(daemon.context.hold_watch)
    os.close(daemon.context._folder)
    daemon.loop.close()


def hold(daemon: Daemon, folder: Path, name: str = "wg0") -> Held:
    """Have a tunnel whose socket is there."""
    (folder / f"{name}.sock").touch()
    held = Held()
    daemon.tunnels[name] = cast("Tunnel", SimpleNamespace(name=name, live=held))
    return held


def until_let_go(daemon: Daemon, held: Held) -> None:
    async def wait() -> None:
        for _ in range(500):
            if not held.holds:
                return
            await daemon.loop.sleep(0.01)

    daemon.loop.run(wait())
    assert not held.holds


def test_a_socket_that_goes(daemon: Daemon, folder: Path) -> None:
    held, other = hold(daemon, folder), hold(daemon, folder, "wg1")
    keep(daemon.context, "the watch", daemon.watch_sockets)

    (folder / "wg0.sock").unlink()

    until_let_go(daemon, held)
    assert other.holds


@pytest.mark.parametrize("again", [True, False])
def test_the_whole_folder_goes(daemon: Daemon, folder: Path, *, again: bool) -> None:
    """Nothing is held without a watch; the next folder is watched like the first one."""
    held = hold(daemon, folder)
    keep(daemon.context, "the watch", daemon.watch_sockets)

    shutil.rmtree(folder)
    if again:
        folder.mkdir(mode=0o755)  # as the next wireguard-go does
    until_let_go(daemon, held)

    async def watched() -> None:
        for _ in range(500):
            if daemon.context.watches_the_folder():
                return
            await daemon.loop.sleep(0.01)

    daemon.loop.run(watched())
    assert folder.is_dir()
    later = hold(daemon, folder)
    (folder / "wg0.sock").unlink()
    until_let_go(daemon, later)

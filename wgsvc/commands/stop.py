"""`wgsvc stop`, `down`: take tunnels down; exit 0 when none of them is left."""

from __future__ import annotations

import os

from wgsvc.cli import names_of
from wgsvc.commands.start import ends_again_and_again, finish, pause, printer
from wgsvc.errors import told
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import client

if TYPE_CHECKING:
    import _socket
    import argparse

    from wgsvc.settings import Settings

SUMMARY = "take tunnels down"
STOPS = True  # a mistake in wgsvc.toml must not keep a tunnel up
DEFAULTS = {"timings": False, "json": False, "verb": "stop"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", metavar="IF", help="interfaces; none is all that run")
    parser.add_argument("--timings", action="store_true", help="show the time of each phase")
    parser.add_argument("--json", action="store_true", help="the results as JSON")


def run(options: Any, settings: Settings) -> int:
    """Stop; also what no daemon runs any more."""
    given = [] if list(options.names) == ["all"] else names_of(options, settings)
    names = [os.path.basename(name).removesuffix(".conf") for name in given]
    done = _stop(settings, names)
    paths = dict(zip(names, given, strict=True))
    for result in done.get("results", ()):
        if result["outcome"] == "not running" and result["name"] in paths:
            from wgsvc.commands.targets import is_known, unknown_result

            if not is_known(paths[result["name"]], settings):
                unknown_result(result)
    return finish(options, settings, done)


def _stop(settings: Settings, names: list[str]) -> dict[str, Any]:
    """
    Return what became of these tunnels, or of all that run.

    Raises: WgsvcError if they could not even be asked for.
    """
    done: dict[str, Any] | None = None
    for _ in range(20):
        connection = client.call(settings)
        if connection is None:
            done = _without_daemon(settings, names)
        else:
            wanted: list[str] | None = names
            if not names:
                wanted = _running(settings, connection)
                connection = client.call(settings) if wanted else None
                if wanted == []:
                    return {"results": []}
            if connection is not None and wanted:
                say = printer(settings)
                done = client.ask(settings, connection, "stop", wanted, say=say)
        if done is not None and not done.get("again"):
            return done
        pause()
    raise ends_again_and_again(done)


def _running(settings: Settings, connection: _socket.socket) -> list[str] | None:
    """
    Return the tunnels that a supervisor has, and those that it found and could not adopt.

    Only their names: their state may take as long as a WireGuard that hangs. None if it ended.
    Raises: WgsvcError.
    """
    done = client.ask(settings, connection, "names", [])
    if done is None:
        return None
    if "error" in done:
        raise told(done["error"])
    return [*done.get("names", ()), *done.get("left", ())]


def _without_daemon(settings: Settings, names: list[str]) -> dict[str, Any] | None:
    """
    Start a daemon only if an earlier one left something that has to be taken down.

    None if that one gave no answer: another one was faster, or it died.
    """
    noted = client.journaled(settings.run_dir, aside=True)
    if not names and not noted:
        return {"results": []}
    from wgsvc.system import current

    system = current(settings.wireguard_go)
    left = [name for name in names or noted if _something_left(settings, system, name, noted)]
    results = [
        {"name": name, "outcome": "not running", "exit_code": 0}
        for name in names
        if name not in left
    ]
    if left:
        from wgsvc.supervise.launch import fork

        connection = fork(settings).hand_over({})
        done = client.ask(settings, connection, "stop", left, say=printer(settings))
        if done is None or done.get("again") or "error" in done:
            return done
        results += done.get("results", [])
    return {"results": results}


def _something_left(settings: Settings, system: Any, name: str, noted: list[str]) -> bool:
    if name in noted:
        from wgsvc.supervise import unsupervised

        found = unsupervised.look(system, settings, name)
        return unsupervised.is_left(system, settings, found) or found.interface is not None
    return (
        os.path.lexists(os.path.join(settings.uapi_dir, f"{name}.sock"))
        or system.interface(name) is not None
    )

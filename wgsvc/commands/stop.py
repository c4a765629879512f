"""`wgsvc stop`, `down`: take tunnels down; exit 0 when none of them is left."""

from __future__ import annotations

import os

from wgsvc.cli import names_of
from wgsvc.commands.start import ends_again_and_again, finish, pause, printer
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import client

if TYPE_CHECKING:
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
    for _ in range(20):
        names = _names(options, settings)
        connection = client.call(settings.run_dir)
        if connection is None:
            cold = _without_daemon(settings, names)
            if cold is not None:
                return finish(options, settings, cold)
            pause()
            continue
        if not names:
            names = _running(settings)
            if not names:
                connection.close()
                return 0
        done = client.ask(connection, "stop", names, {}, printer(settings))
        if done is not None and not done.get("again"):
            return finish(options, settings, done)
    raise ends_again_and_again()


def _names(options: Any, settings: Settings) -> list[str]:
    if list(options.names) in ([], ["all"]):
        return []
    return [os.path.basename(name).removesuffix(".conf") for name in names_of(options, settings)]


def _running(settings: Settings) -> list[str]:
    connection = client.call(settings.run_dir)
    if connection is None:
        return []
    done = client.ask(connection, "status", [], {}, printer(settings))
    return [tunnel["name"] for tunnel in done["tunnels"]] if done else []


def _without_daemon(settings: Settings, names: list[str]) -> dict[str, Any] | None:
    """
    Start a daemon only if an earlier one left something that has to be taken down.

    None if that one gave no answer: another one was faster, or it died.
    """
    from wgsvc.system import current

    system = current(settings.wireguard_go)
    names = names or client.journaled(settings.run_dir)
    left = [name for name in names if _something_left(settings, system, name)]
    results = [
        {"name": name, "outcome": "not running", "exit_code": 0}
        for name in names
        if name not in left
    ]
    if left:
        from wgsvc.supervise.launch import fork

        done = client.ask(fork(settings).hand_over({}), "stop", left, {}, printer(settings))
        if done is None or done.get("again"):
            return None
        if "error" in done:
            return done
        results += done.get("results", [])
    return {"results": results}


def _something_left(settings: Settings, system: Any, name: str) -> bool:
    return (
        os.path.lexists(os.path.join(settings.run_dir, f"{name}.json"))
        or os.path.lexists(os.path.join(settings.uapi_dir, f"{name}.sock"))
        or system.interface(name) is not None
    )

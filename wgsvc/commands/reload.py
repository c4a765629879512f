"""`wgsvc reload`: make what runs equal to the files, without dropping a session."""

from __future__ import annotations

from wgsvc.commands import start
from wgsvc.errors import UnavailableError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import client

if TYPE_CHECKING:
    import argparse

    from wgsvc.settings import Settings

SUMMARY = "make running tunnels equal to their files"
DEFAULTS = {"timings": False, "json": False, "verb": "reload"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "names", nargs="*", metavar="IF", help="interfaces; none is all that run; `all` also starts"
        " files that are new and stops tunnels whose file is gone",
    )  # fmt: skip
    parser.add_argument("--timings", action="store_true", help="show the time of each phase")
    parser.add_argument("--json", action="store_true", help="the results as JSON")


def run(options: Any, settings: Settings) -> int:
    """Reload; with `all`, start and stop what files came and went."""
    running = _running(settings)
    names = list(options.names)
    status = 0
    if names == ["all"]:
        from wgsvc.files import available

        files = available(settings)
        new = [name for name in files if name not in running]
        gone = [name for name in running if name not in files]
        if new:
            status = start.finish(options, settings, start.request(settings, "start", new))
        if gone:
            done = _ask(settings, "stop", gone)
            status = max(status, start.finish(options, settings, done))
        names = [name for name in files if name in running]
    names = names or running
    if not names:
        return status
    return max(status, start.finish(options, settings, _ask(settings, "reload", names)))


def _running(settings: Settings) -> list[str]:
    done = _ask(settings, "names", []) if client.call(settings.run_dir) else {}
    return list(done.get("names", []))


def _ask(settings: Settings, verb: str, names: list[str]) -> dict[str, Any]:
    connection = client.call(settings.run_dir)
    if connection is None:
        raise UnavailableError("no tunnel is running", cure="wgsvc start IF")
    done = client.ask(
        connection, verb, names, client.own_settings(settings), start.printer(settings)
    )
    if done is None:
        raise UnavailableError("the daemon has just ended", cure="wgsvc status")
    return done

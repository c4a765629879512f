"""`wgsvc reload`: make what runs equal to the files, without dropping a session."""

from __future__ import annotations

from wgsvc.cli import names_of
from wgsvc.commands import start
from wgsvc.errors import UnavailableError
from wgsvc.light import TYPE_CHECKING, Any

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
    running = start.running_names(settings)
    names = names_of(options, settings)
    status = 0
    if list(options.names) == ["all"]:
        files = names
        new = [name for name in files if name not in running]
        gone = [name for name in running if name not in files]
        if new:
            status = start.finish(options, settings, start.request(settings, "start", new))
        if gone:
            stopped = start.ask_running(settings, "stop", gone) or {}
            status = max(status, start.finish(options, settings, stopped))
        names = [name for name in files if name in running]
    else:
        names = names or running
    if not names:
        return status
    done = start.ask_running(settings, "reload", names)
    if done is None:
        raise UnavailableError("no tunnel is running", cure="wgsvc start IF")
    return max(status, start.finish(options, settings, done))

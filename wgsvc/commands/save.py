"""`wgsvc save`: write what runs into the files."""

from __future__ import annotations

from wgsvc.cli import names_of
from wgsvc.commands.start import ask_running, finish, running_names
from wgsvc.errors import UnavailableError
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from wgsvc.settings import Settings

SUMMARY = "write what was changed by hand into the files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="+", metavar="IF", help="running interfaces, or `all`")
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    parser.set_defaults(timings=False)


def run(options: Any, settings: Settings) -> int:
    """Save; what it was before stays beside each file as NAME.conf.previous."""
    if list(options.names) == ["all"]:
        names = running_names(settings)
    else:
        names = names_of(options, settings)
    done = ask_running(settings, "save", names)
    if done is None:
        raise UnavailableError("no tunnel is running: there is nothing to save")
    return finish(options, settings, done)

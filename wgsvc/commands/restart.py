"""`wgsvc restart`: stop and start, each tunnel on its own."""

from __future__ import annotations

from wgsvc.commands import start
from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from wgsvc.settings import Settings

SUMMARY = "take tunnels down and bring them up again"
DEFAULTS = {"timings": False, "json": False, "verb": "restart"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    start.add_arguments(parser)


def run(options: Any, settings: Settings) -> int:
    """Check the files first: a bad one must not cost a running tunnel."""
    names = start.some_names(options, settings)
    return start.finish(options, settings, start.request(settings, "restart", names))

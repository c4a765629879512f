"""`wgsvc plan`: what start does, as the commands a person would type; nothing is touched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from wgsvc.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from wgsvc.settings import Settings

SUMMARY = "show what start does, without doing it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="+", metavar="IF|FILE")


def run(options: Any, settings: Settings) -> int:
    """Print the steps in order."""
    from wgsvc.cli import names_of
    from wgsvc.files import load
    from wgsvc.plan.start import start_steps
    from wgsvc.plan.text import commands
    from wgsvc.supervise.up import gather_facts
    from wgsvc.system import current

    system = current(settings.wireguard_go)
    for name in names_of(options, settings):
        checked = load(name, settings)
        for found in checked.diagnostics:
            print(f"wgsvc: {found}", file=sys.stderr)
        if checked.tunnel is None or checked.errors:
            raise ConfigError(f"{name} has errors: nothing is planned for it")
        facts = gather_facts(system, settings, checked.tunnel)
        for step in start_steps(checked.tunnel, facts):
            for line in commands(step, system.name, every_route=True):
                print(line)
    return 0

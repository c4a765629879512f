"""`wgsvc strip`: print the part of a configuration file that wg(8) takes."""

from __future__ import annotations

import argparse

from wgsvc.commands.check import print_diagnostics
from wgsvc.config.render import wg_text
from wgsvc.files import load
from wgsvc.settings import Settings

SUMMARY = "print a configuration file without wg-quick's keys (private keys too)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "what", metavar="FILE|IF", help="an interface, or a path ending in INTERFACE.conf"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Print wg's part; return 0, or 78 if the file has errors."""
    checked = load(options.what, settings)
    if checked.tunnel is None:
        print_diagnostics(checked)
        return checked.exit_code
    print(wg_text(checked.tunnel), end="")
    return 0

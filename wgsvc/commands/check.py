"""`wgsvc check`: say what is wrong with configuration files, touching nothing."""

from __future__ import annotations

import argparse
import sys

from wgsvc.config.model import Checked, Diagnostic
from wgsvc.config.quote import printable
from wgsvc.config.together import compare
from wgsvc.errors import ConfigError
from wgsvc.files import available, load
from wgsvc.order import natural
from wgsvc.settings import Settings
from wgsvc.unread import unread

SUMMARY = "check configuration files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="FILE|IF",
        help="an interface, or a path ending in INTERFACE.conf; none: all there are",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Check the files; return 0, or 78 if one of them has errors."""
    names: list[str] = options.what or available(settings)
    passed_over = () if options.what else unread(settings)
    results = _compared([(name, load(name, settings, thorough=True)) for name in names], settings)
    if options.json:
        _print_json(results, passed_over)
    else:
        for found in passed_over:
            print(printable(str(found)))
        for name, checked in results:
            for found in checked.diagnostics:
                print(printable(str(found)))
            print(printable(f"{name}: {_verdict(checked)}"))
    if not names:
        folders = " or ".join(settings.config_dirs)
        raise ConfigError(f"no configuration file INTERFACE.conf in {folders}")
    return max((checked.exit_code for _, checked in results if checked.errors), default=0)


def _compared(results: list[tuple[str, Checked]], settings: Settings) -> list[tuple[str, Checked]]:
    """Add what a comparison with all other tunnels there are has found."""
    tunnels = {each.tunnel.name: each.tunnel for _, each in results if each.tunnel}
    wanted = set(tunnels)
    if not wanted:
        return results
    # A file of the same interface elsewhere is a copy that is worked on, not another tunnel.
    for name in available(settings):
        if name not in tunnels:
            other = load(name, settings).tunnel
            if other is not None:
                tunnels[name] = other
    found = compare([tunnels[name] for name in sorted(tunnels, key=natural)], wanted)
    compared = []
    for name, each in results:
        more = found.get(each.tunnel.name, []) if each.tunnel else []
        wrong = any(one.severity == "error" for one in more)
        tunnel = None if wrong else each.tunnel
        compared.append(
            (name, each._replace(tunnel=tunnel, diagnostics=(*each.diagnostics, *more)))
        )
    return compared


def print_diagnostics(checked: Checked) -> None:
    """Print to stderr what a file that was to be used has to say."""
    for found in checked.diagnostics:
        print(printable(str(found)), file=sys.stderr)


def _verdict(checked: Checked) -> str:
    warnings = len(checked.diagnostics) - len(checked.errors)
    also = f", {_count(warnings, 'warning')}" if warnings else ""
    if checked.tunnel is None:
        return f"{_count(len(checked.errors), 'error')}{also}"
    return f"ok, {_count(len(checked.tunnel.peers), 'peer')}{also}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_json(results: list[tuple[str, Checked]], passed_over: tuple[Diagnostic, ...]) -> None:
    import json

    files = [
        {
            "what": name,
            "interface": checked.tunnel.name if checked.tunnel else None,
            "path": checked.tunnel.path if checked.tunnel else None,
            "ok": not checked.errors,
            "peers": len(checked.tunnel.peers) if checked.tunnel else None,
            "diagnostics": [found._asdict() for found in checked.diagnostics],
        }
        for name, checked in results
    ]
    document = {
        "schema": 1,
        "ok": bool(files) and all(file["ok"] for file in files),
        "files": files,
        "not_read": [found._asdict() for found in passed_over],
    }
    print(json.dumps(document, indent=2))

"""`wgsvc plan`: what start, or of a running tunnel reload, does; nothing is touched."""

from __future__ import annotations

import sys

from wgsvc.errors import ConfigError
from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from wgsvc.settings import Settings

SUMMARY = "show what start, or reload, does, without doing it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="+", metavar="IF|FILE")


def run(options: Any, settings: Settings) -> int:
    """Print the steps in order."""
    from wgsvc.cli import names_of
    from wgsvc.commands.start import show_failure
    from wgsvc.files import load
    from wgsvc.plan.start import start_steps
    from wgsvc.plan.text import commands
    from wgsvc.supervise.up import gather_facts
    from wgsvc.system import current

    system = current(settings.wireguard_go)
    names = names_of(options, settings)
    running = _differences(settings, names)
    status = 0
    for name in names:
        checked = load(name, settings)
        for found in checked.diagnostics:
            print(f"wgsvc: {found}", file=sys.stderr)
        if checked.tunnel is None or checked.errors:
            print(f"wgsvc: {name} has errors: nothing is planned for it", file=sys.stderr)
            status = max(status, ConfigError.exit_code)
            continue
        reload = running.get(name, {})
        if "error" in reload:
            show_failure(f"{name}: ", reload["error"])
            status = max(status, int(reload["error"]["exit_code"]))
            continue
        if reload.get("lines") is not None:
            print("\n".join(reload["lines"]) or f"# {name}: no change")
            continue
        facts = gather_facts(system, settings, checked.tunnel)
        for step in start_steps(checked.tunnel, facts):
            for line in commands(step, system.name, every_route=True):
                print(line)
    return status


def _differences(settings: Settings, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what reload does to those that run."""
    from wgsvc.supervise import client

    connection = client.call(settings.run_dir)
    if connection is None:
        return {}
    done = (
        client.ask(connection, "plan", names, client.own_settings(settings), lambda _line: None)
        or {}
    )
    return {plan["name"]: plan for plan in done.get("plans", ())}

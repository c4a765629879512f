"""`wgsvc plan`: what start, or of a running tunnel reload, does; nothing is touched."""

from __future__ import annotations

import sys

from wgsvc.errors import (
    BusyError,
    NameTakenError,
    UnavailableError,
    WgsvcError,
    shell_word,
    told,
)
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise.client import interface_of

if TYPE_CHECKING:
    import argparse

    from wgsvc.settings import Settings
    from wgsvc.system.base import System

SUMMARY = "show what start, or reload, does, without doing it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="+", metavar="IF|FILE")


def run(options: Any, settings: Settings) -> int:
    """Print the steps in order."""
    from wgsvc.cli import names_of, show_error
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
            status = max(status, checked.exit_code)
            continue
        reload = running.get(name, {})
        if "error" in reload:
            show_failure(f"{name}: ", reload["error"])
            status = max(status, int(reload["error"]["exit_code"]))
            continue
        if reload.get("lines") is not None:
            print("\n".join(reload["lines"]) or f"# {name}: no change")
            continue
        wrong = _why_no_start(system, settings, name, reload.get("state"))
        if wrong is not None:
            show_error(wrong)
            status = max(status, wrong.exit_code)
            continue
        facts = gather_facts(system, settings, checked.tunnel)
        for step in start_steps(checked.tunnel, facts):
            for line in commands(step, system.name, every_route=True):
                print(line)
    return status


def _differences(settings: Settings, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what reload does to those that run."""
    from wgsvc.supervise import client

    connection = client.call(settings)
    if connection is None:
        return {}
    own = client.own_settings(settings)
    done = client.ask(settings, connection, "plan", names, options=own) or {}
    if "error" in done:
        raise told(done["error"])
    return {plan["name"]: plan for plan in done.get("plans", ())}


def _why_no_start(
    system: System, settings: Settings, name: str, state: str | None
) -> WgsvcError | None:
    """
    Return why a start is not what comes next, None if it is.

    `state` is the tunnel's if a supervisor has it.
    """
    interface = interface_of(name)
    if state in ("starting", "stopping", "respawning"):
        return BusyError(f"{interface} is {state}", cure=f"wgsvc status {shell_word(interface)}")
    if state is not None:
        return None
    from wgsvc.supervise import unsupervised

    found = unsupervised.look(system, settings, interface)
    why = unsupervised.reason(system, settings, found)
    if found.runs and unsupervised.is_left(system, settings, found):
        again = shell_word(name)
        cure = f"then wgsvc plan {again} shows what wgsvc reload {again} does"
        return UnavailableError(f"{interface} is unsupervised: {why}", cure=cure)
    if found.interface is not None and not unsupervised.is_left(system, settings, found):
        return NameTakenError(f"{interface}: {why}")
    return None

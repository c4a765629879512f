"""`wgsvc status`: what runs, how well; exit 0 up, 3 not running, 1 failed or degraded."""

from __future__ import annotations

from wgsvc.errors import told
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.report.snapshot import SCHEMA, exit_status
from wgsvc.supervise import client

if TYPE_CHECKING:
    import argparse

    from wgsvc.settings import Settings

SUMMARY = "show what runs"
ASKS = True  # members of status_group may not read wgsvc.toml
DEFAULTS = {"json": False, "metrics": False, "verb": "status"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", metavar="IF", help="interfaces; none is all that run")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument(
        "--metrics", action="store_true", help="for Prometheus' textfile collector; exit 0"
    )


def run(options: Any, settings: Settings) -> int:
    """Ask the daemon; without one, look for what it left."""
    names = [] if list(options.names) == ["all"] else list(map(client.interface_of, options.names))
    snapshot = ask(settings, names)
    for tunnel in snapshot["tunnels"] if names else ():
        if tunnel["state"] == "down" and not tunnel["reason"]:
            from wgsvc.commands import targets

            if not targets.is_known(tunnel["name"], settings):
                tunnel["reason"] = f"{targets.UNKNOWN} ({targets.CURE})"
    if options.json:
        from wgsvc.lightjson import pretty

        print(pretty(snapshot))
    elif options.metrics:
        from wgsvc.report import prometheus

        print(prometheus.render(snapshot), end="")
        return 0  # a collector wants the figures of a failed tunnel too
    else:
        from wgsvc.report.table import render

        print(render(snapshot, verbose=settings.verbosity > 0))
    return exit_status(snapshot["tunnels"])


def ask(settings: Settings, names: list[str]) -> dict[str, Any]:
    """Return the snapshot."""
    connection = client.call(settings)
    if connection is not None:
        done = client.ask(settings, connection, "status", names)
        if done is not None and "error" in done:
            raise told(done["error"])
        if done is not None:
            return done
    return {"schema": SCHEMA, "supervisor": None, "tunnels": _unsupervised(settings, names)}


def _unsupervised(settings: Settings, names: list[str]) -> list[dict[str, Any]]:
    """Return what is known of tunnels that no supervisor watches; by default of all there are."""
    if not names and not client.journaled(settings.run_dir, aside=True):
        return []
    from wgsvc.loop import Loop
    from wgsvc.supervise import unsupervised
    from wgsvc.system import current

    system, loop = current(settings.wireguard_go), Loop()
    wanted = names or unsupervised.left(system, settings)
    return [loop.run(unsupervised.table(loop, system, settings, name)) for name in wanted]

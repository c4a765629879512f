"""`wgsvc daemon`: be the supervisor in the foreground, or hand over to a new one."""

from __future__ import annotations

import os

from wgsvc.errors import TimeoutExpiredError, told
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import client

if TYPE_CHECKING:
    import argparse

    from wgsvc.settings import Settings

SUMMARY = "run the supervisor itself"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--foreground", action="store_true", help="stay in the foreground, for daemon(8), systemd"
    )
    parser.add_argument(
        "--replace", action="store_true", help="take over from the running one, tunnels untouched"
    )


def run(options: Any, settings: Settings) -> int:
    """Adopt what is there and supervise it."""
    from wgsvc.supervise import context, daemon, launch
    from wgsvc.system import current

    if options.replace:
        _retire(settings)
    if options.foreground:
        context.foreground = True
        os.chdir("/")
        os.closerange(3, 1 << 16)  # children inherit what whoever started us left open
        daemon.run(settings, current(settings.wireguard_go), stay=True)
        return 0
    connection = launch.fork(settings).hand_over({})
    done = client.ask(settings, connection, "status", []) or {}
    if done.get("again"):
        print("a supervisor is running already")
    elif "supervisor" in done:
        tunnels = ", ".join(tunnel["name"] for tunnel in done["tunnels"]) or "none"
        print(f"supervisor: PID {done['supervisor']['pid']}; adopted: {tunnels}")
    elif "error" in done:
        from wgsvc.commands.start import show_failure

        show_failure("", done["error"])
        return int(done["error"]["exit_code"])
    return 0


def _retire(settings: Settings) -> None:
    import time

    connection = client.call(settings)
    if connection is None:
        return
    done = client.ask(settings, connection, "retire", []) or {}
    if "error" in done:
        raise told(done["error"])
    deadline = time.monotonic() + settings.step_timeout_s
    while time.monotonic() < deadline:
        connection = client.call(settings)
        if connection is None:
            return
        connection.close()
        time.sleep(0.005)
    raise TimeoutExpiredError(
        f"the supervisor (PID {done.get('pid', 'unknown')}) does not make room for a new one "
        f"within {settings.step_timeout_s:g} s",
        cure="syslog may have its reason",
    )

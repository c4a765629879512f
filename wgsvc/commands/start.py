"""`wgsvc start`, `up`: bring tunnels up; exit 0 when all are."""

from __future__ import annotations

import os
import sys

from wgsvc.cli import names_of
from wgsvc.errors import BusyError, UsageError, told
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import client

if TYPE_CHECKING:
    import argparse

    from wgsvc.config.model import Tunnel
    from wgsvc.settings import Settings

SUMMARY = "bring tunnels up"
LONGEST_WAIT_S = 7 * 86400.0
TOLD = ("already running", "not running", "no change", "reloaded, sessions renewed")
DEFAULTS = {"timings": False, "json": False, "wait": None, "timeout": 30.0, "verb": "start"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="+", metavar="IF|FILE", help="interfaces, files, or `all`")
    parser.add_argument("--timings", action="store_true", help="show the time of each phase")
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    parser.add_argument(
        "--wait", choices=["handshake"], help="return when a peer of each has shaken hands"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="how long --wait waits (30 s)"
    )


def _seconds(text: str) -> float:
    """Return a time that has an end. Raises: ValueError."""
    value = float(text)
    if not 0 <= value <= LONGEST_WAIT_S:  # nor is NaN
        raise ValueError("a time without an end")
    return value


def run(options: Any, settings: Settings) -> int:
    """Start; the daemon too if there is none."""
    names = some_names(options, settings)
    wanted = {"wait": options.wait, "timeout_s": options.timeout} if options.wait else {}
    return finish(options, settings, request(settings, "start", names, wanted))


def some_names(options: Any, settings: Settings) -> list[str]:
    """
    Return the names given, for `all` those of all files.

    Raises: UsageError if there are none.
    """
    names = names_of(options, settings)
    if not names:
        raise UsageError(
            "no interface is named, and no configuration file was found in "
            + " or ".join(settings.config_dirs),
            cure=f"wgsvc {options.verb} IF",
        )
    return names


def request(
    settings: Settings, verb: str, names: list[str], wanted: dict[str, Any] | None = None
) -> dict[str, Any]:
    """
    Have the daemon do `verb`; where none runs, check the files and start one for the good ones.

    Returns its closing answer, with the results of files that were refused here, in the order
    of the names. If all are bad, no daemon is started.
    """
    say, wanted = printer(settings), {**client.own_settings(settings), **(wanted or {})}
    names = list(dict.fromkeys(names))
    files: dict[str, Tunnel] | None = None
    refused: dict[str, dict[str, Any]] = {}
    for _ in range(20):
        good = [name for name in names if name not in refused]
        connection = client.call(settings)
        if connection is not None:
            done = client.ask(settings, connection, verb, good, options=wanted, say=say)
        else:
            from wgsvc.supervise.launch import fork

            launch = fork(settings)
            if files is None:
                files, refused = _check(settings, verb, names)
                good = [name for name in names if name not in refused]
            if not good:
                launch.cancel()
                return {"results": list(refused.values())}
            connection = launch.hand_over(files)
            done = client.ask(settings, connection, verb, good, options=wanted, say=say)
        if done is not None and not done.get("again"):
            return _with_refused(done, names, refused)
        pause()
    from wgsvc.supervise.control import error_table

    return _with_refused({"error": error_table(ends_again_and_again(done))}, names, refused)


def _with_refused(
    done: dict[str, Any], names: list[str], refused: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    if not refused:
        return done
    results = {**refused, **{result["name"]: result for result in done.get("results", ())}}
    return {**done, "results": [results[name] for name in names if name in results]}


def ask_running(settings: Settings, verb: str, names: list[str]) -> dict[str, Any] | None:
    """
    Have the daemon do `verb` to what runs; one is started to adopt what a dead one left.

    Returns its closing answer, None if nothing runs.
    """
    for _ in range(20):
        connection = client.call(settings)
        if connection is None:
            if not _something_left(settings):
                return None
            from wgsvc.supervise.launch import fork

            connection = fork(settings).hand_over({})
        own = client.own_settings(settings)
        done = client.ask(settings, connection, verb, names, options=own, say=printer(settings))
        if done is not None and not done.get("again"):
            return done
        pause()
    raise ends_again_and_again(done)


def running_names(settings: Settings) -> list[str]:
    """
    Return the tunnels that run, those too that an earlier supervisor left.

    Raises: WgsvcError.
    """
    done = ask_running(settings, "names", []) or {}
    if "error" in done:
        raise told(done["error"])
    return list(done.get("names", ()))


def _something_left(settings: Settings) -> bool:
    """Whether there is something for a supervisor to take over, or to clear up."""
    if not client.journaled(settings.run_dir, aside=True):
        return False
    from wgsvc.supervise import unsupervised
    from wgsvc.system import current

    return bool(unsupervised.left(current(settings.wireguard_go), settings))


def _check(
    settings: Settings, verb: str, names: list[str]
) -> tuple[dict[str, Tunnel], dict[str, dict[str, Any]]]:
    """Read every file before a daemon is started: those to hand over, and the bad ones by name."""
    from wgsvc.files import load

    tunnels: dict[str, Tunnel] = {}
    refused: dict[str, dict[str, Any]] = {}
    for name in names:
        checked = load(name, settings)
        if checked.tunnel is None or checked.errors:
            from wgsvc.supervise import log_socket, refusal

            who = f"uid {os.getuid()}, PID {os.getpid()}"
            for line in refusal.lines(verb, name, checked, settings, who):
                log_socket.send(line, error=True)
            diagnostics = [found._asdict() for found in checked.diagnostics]
            refused[name] = {
                "name": name, "outcome": "refused", "exit_code": checked.exit_code,
                "diagnostics": diagnostics,
            }  # fmt: skip
        else:
            tunnels[checked.tunnel.name] = checked.tunnel
            for warning in checked.diagnostics:
                print(f"wgsvc: {warning}", file=sys.stderr)
    return tunnels, refused


def ends_again_and_again(done: dict[str, Any] | None) -> BusyError:
    """Return the error for a supervisor that never comes to an answer; `done` is its last one."""
    held = (done or {}).get("again")
    if isinstance(held, str):  # by the lock of one that can't be reached by its socket
        return BusyError(f"{held}, and it does not answer", cure="see who: ps -ax | grep wgsvc")
    return BusyError(
        "the supervisor ends again and again before it answers", cure="syslog has its reason"
    )


def pause() -> None:
    """Wait a moment before another supervisor is tried."""
    import time

    time.sleep(0.05)  # another daemon is just starting or ending: try again


def printer(settings: Settings) -> Any:
    """Return what shows a line that the daemon says."""
    if settings.verbosity < 0:
        return lambda _line: None
    return lambda line: print(line, file=sys.stderr)


def finish(options: Any, settings: Settings, done: dict[str, Any]) -> int:
    """Show results; return the exit status: the worst of them."""
    if options.json:
        from wgsvc.lightjson import pretty

        print(pretty(done))
    results = done.get("results", [])
    for result in results:
        show_result(result, settings, timings=options.timings)
    status = max((int(result["exit_code"]) for result in results), default=0)
    if "error" in done:
        show_failure("", done["error"])
        status = max(status, int(done["error"]["exit_code"]))
    return status


def show_result(result: dict[str, Any], settings: Settings, *, timings: bool) -> None:
    """Show one tunnel's result: problems always, the rest unless quiet."""
    name = result["name"].rpartition("/")[2].removesuffix(".conf")
    for found in result.get("diagnostics", ()):
        from wgsvc.config.model import Diagnostic

        print(f"wgsvc: {Diagnostic(**found)}", file=sys.stderr)
    if "error" in result:
        show_failure(f"{name}: ", result["error"])
    elif result["outcome"] in TOLD and settings.verbosity >= 0:
        print(f"{name}: {result['outcome']}", file=sys.stderr)
    if timings and result.get("timings"):
        total_ms = sum(result["timings"].values())
        for phase, took_ms in result["timings"].items():
            print(f"{name}: {phase:14} {took_ms:9.2f} ms")
        print(f"{name}: {'total':14} {total_ms:9.2f} ms")


def show_failure(prefix: str, error: dict[str, Any]) -> None:
    """Show an error that came as data."""
    for one in error.get("errors") or (error,):
        print(f"wgsvc: {prefix}{one['message']}", file=sys.stderr)
        if one.get("cure"):
            print(f"       {one['cure']}", file=sys.stderr)

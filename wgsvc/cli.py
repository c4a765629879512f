"""
The command line: arguments to one command, errors to text and exit status; nothing else.

What a plain `wgsvc VERB NAMES` needs, with --json too, is parsed here without argparse, which
costs 6 ms of the 15 that `status` takes; any other option, or a mistake, goes to argparse.
"""

from __future__ import annotations

import os
import sys

from wgsvc.errors import WgsvcError, unforeseen
from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from types import ModuleType

    from wgsvc.settings import Settings

VERBS = {
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "reload": "reload",
    "status": "status",
    "check": "check",
    "plan": "plan",
    "strip": "strip",
    "save": "save",
    "up": "start",
    "down": "stop",
    "doctor": "doctor",
    "lab": "lab",
    "install-rc": "install_rc",
    "daemon": "daemon",
}
"""Each verb and the file in wgsvc/commands that it is in. `up` and `down` are wg-quick's."""

FLAGS = {"--json": "json", "--metrics": "metrics", "--timings": "timings"}
PLAIN = ("start", "stop", "restart", "status", "up", "down")


def run(arguments: list[str]) -> int:
    """Run one command; return the exit status. Never raises for anything foreseen."""
    try:
        return _run(arguments)
    except WgsvcError as error:
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output had enough; say nothing more, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:  # the disk behind stdout is full, for instance
        failure = unforeseen(error)
        show_error(failure)
        return failure.exit_code


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in PLAIN:
        command = _command(arguments[0])
        names = [word for word in arguments[1:] if not word.startswith("-")]
        flags = {FLAGS.get(word, word): True for word in arguments[1:] if word.startswith("-")}
        if command.DEFAULTS.keys() >= flags.keys():
            options = _Options(names, {**command.DEFAULTS, **flags})
            return _run_with(command, options, {})
    parsed, command = _parse(arguments)
    return _run_with(
        command,
        parsed,
        {
            "config_dir": parsed.config_dir,
            "run_dir": parsed.run_dir,
            "verbosity": parsed.verbose - parsed.quiet,
            "changes": parsed.changes,
        },
    )


def _run_with(command: ModuleType, options: Any, given: dict[str, Any]) -> int:
    """Run a command with the settings in force; `stop` also with a file that is wrong."""
    from wgsvc.settings import load_settings

    wrong: list[WgsvcError] = []
    if getattr(command, "STOPS", False):
        given["complain"] = wrong.append
    settings = load_settings(**given, asks=getattr(command, "ASKS", False))
    for error in wrong:
        show_error(error)
    if settings.changes:
        from wgsvc.commands.targets import check_settings

        what = getattr(options, "what", None)
        names = getattr(options, "names", None) or ([what] if isinstance(what, str) else what)
        check_settings(settings, names or ())
    status = int(command.run(options, settings))
    return status or (wrong[0].exit_code if wrong else 0)


class _Options:
    """What argparse would give; types.SimpleNamespace takes 0.5 ms to import."""

    def __init__(self, names: list[str], defaults: dict[str, Any]) -> None:
        self.names = names
        self.__dict__.update(defaults)


def _command(verb: str) -> ModuleType:
    # Not importlib.import_module: the package around it takes 0.5 ms to import.
    module: ModuleType = __import__(f"wgsvc.commands.{VERBS[verb]}", fromlist=["run"])
    return module


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, ModuleType]:
    import argparse

    from wgsvc import __version__

    parser = argparse.ArgumentParser(
        prog="wgsvc",
        description="Brings WireGuard tunnels up, keeps them up, takes them down without a trace.",
        epilog="Files are wg-quick's: NAME.conf in /usr/local/etc/wireguard or /etc/wireguard.",
    )
    parser.add_argument("--version", action="version", version=f"wgsvc {__version__}")
    parser.add_argument("--config-dir", metavar="DIR", help="where NAME.conf is looked for")
    parser.add_argument("--run-dir", metavar="DIR", help="where lock, journals and socket are")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="changes",
        help="a setting of wgsvc.toml; IF.KEY=VALUE for one interface; KEY= takes one back",
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    parser.add_argument("-q", "--quiet", action="count", default=0, help="say errors only")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    # Only the verb in use is imported; help shows the summaries of all.
    named = next((a for a in arguments if a in VERBS), None)
    if named is None:
        for verb in VERBS:
            verbs.add_parser(verb, help=_summary(verb))
        parser.parse_args(arguments)  # ends: --help, --version, or a usage error (2)
        raise SystemExit(os.EX_USAGE)
    command = _command(named)
    for verb in VERBS:
        sub = verbs.add_parser(verb, description=command.SUMMARY if verb == named else None)
        if verb == named:
            command.add_arguments(sub)
    return parser.parse_args(arguments), command


def _summary(verb: str) -> str:
    try:
        return str(_command(verb).SUMMARY)
    except ImportError:
        return ""


def show_error(error: WgsvcError) -> None:
    """Write an error, its parts and its cure to stderr."""
    errors = getattr(error, "errors", ()) or (error,)
    for one in errors:
        print(f"wgsvc: {one.message}", file=sys.stderr)
        if one.cure:
            print(f"       {one.cure}", file=sys.stderr)


def names_of(options: _Options | argparse.Namespace, settings: Settings) -> list[str]:
    """
    Return the names given; `all` is every configuration file there is.

    What is passed over then for its name is told on stderr.
    """
    names: list[str] = list(options.names)
    if names == ["all"]:
        from wgsvc.files import available
        from wgsvc.unread import unread

        for found in unread(settings):
            print(f"wgsvc: {found}", file=sys.stderr)
        return available(settings)
    return [os.path.abspath(name) if "/" in name else name for name in names]

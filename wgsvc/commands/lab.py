"""`wgsvc lab`: two sites, five hosts, one tunnel, and proof that it hides what it carries."""

from __future__ import annotations

import os
import sys

from wgsvc.errors import UnavailableError
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from wgsvc.lab.hosts import Hosts
    from wgsvc.lab.report import Report
    from wgsvc.settings import Settings

SUMMARY = "build a network of five hosts, bring a tunnel up and check what can be seen of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument(
        "--keep", action="store_true", help="leave the network up; say how to use it"
    )
    parser.add_argument(
        "--remove", action="store_true", help="remove a network that was kept or interrupted"
    )
    parser.add_argument(
        "--capture", metavar="DIR", default="", help="write what was captured to pcap files in DIR"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")


def run(options: argparse.Namespace, settings: Settings) -> int:
    """
    Run the lab or remove one; 0 if all checks passed, else 1.

    Raises: UnavailableError (69) with all that this machine lacks, BusyError (75) if there
    is a lab already.
    """
    from wgsvc.lab.report import Report
    from wgsvc.lab.session import Session

    hosts = _hosts(settings, removing=options.remove)
    if options.remove:
        removed = hosts.remove()
        if not options.json:
            print(f"removed {', '.join(removed)}" if removed else "there is no lab")
        else:
            import json

            print(json.dumps({"schema": 1, "removed": removed}))
        return 0
    report = Report()
    show = "nothing" if options.json else "table" if settings.verbosity < 0 else "all"
    found = Session(hosts, report, keep=options.keep, capture_dir=options.capture, show=show).run()
    if options.json:
        import json

        print(json.dumps(found, indent=2))
    else:
        _tell_what_stays(found, report, settings)
    return 0 if found["passed"] else 1


def _hosts(settings: Settings, *, removing: bool) -> Hosts:
    """Return the hosts of this operating system, ready to be made."""
    from wgsvc.lab.record import Record, folder_for

    record = Record(folder_for(settings.run_dir))
    if sys.platform.startswith("freebsd"):
        from wgsvc.lab import freebsd_hosts

        if not removing:
            freebsd_hosts.prepare()
        return freebsd_hosts.FreeBSDHosts(record)
    if sys.platform != "linux":
        raise UnavailableError(f"there is no lab for {sys.platform}")
    from wgsvc.lab.linux_hosts import LinuxHosts, prepare

    was_root = os.geteuid() == 0
    if not removing:
        prepare(was_root=was_root)
    return LinuxHosts(record, was_root=was_root)


def _tell_what_stays(found: dict[str, object], report: Report, settings: Settings) -> None:
    from wgsvc.settings import RUN_DIR

    captures, entering = found["captures"], found["enter"]
    if isinstance(captures, list) and captures:
        report.line()
        report.line("  captures, for Wireshark or tcpdump -r:")
        for path in captures:
            report.line(f"    {path}")
    if isinstance(entering, dict) and entering:
        report.line()
        report.line("  the network is up; to get into a host:")
        for host, command in entering.items():
            report.line(f"    {report.paint(f'{host:<6}', 'host')} {command}")
        run_dir = "" if settings.run_dir == RUN_DIR else f"--run-dir {settings.run_dir} "
        report.line(f"  to remove it: wgsvc {run_dir}lab --remove")

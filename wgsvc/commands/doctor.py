"""`wgsvc doctor`: say what keeps a tunnel from working here, and how to cure it."""

from __future__ import annotations

import argparse

from wgsvc.doctor.finding import ERROR, Finding
from wgsvc.doctor.findings import examine
from wgsvc.errors import WgsvcError
from wgsvc.settings import Settings

SUMMARY = "find what keeps tunnels from working"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--fix", action="store_true", help="remove what wg-quick or a crash left behind"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Look, perhaps clean up; return 0, or 1 if something keeps a tunnel from working."""
    found = [(each, *_fixed(each, wanted=options.fix)) for each in examine(settings)]
    bad = any(each.severity == ERROR and not done for each, done, _ in found)
    if options.json:
        import json

        findings = [
            {
                "severity": each.severity,
                "subject": each.subject,
                "what": each.what,
                "cure": each.cure,
                "fixable": each.fix is not None,
                "fixed": done,
                "result": result,
            }
            for each, done, result in found
        ]
        print(json.dumps({"schema": 1, "ok": not bad, "findings": findings}, indent=2))
        return int(bad)
    for each, _, result in found:
        print(f"{each.severity}: {each.subject}: {each.what}")
        if result:
            print(f"    {result}")
        elif each.cure:
            by_us = "   (or: wgsvc doctor --fix)" if each.fix else ""
            print(f"    cure: {each.cure}{by_us}")
    if not found:
        print("nothing found that keeps a tunnel from working")
    return int(bad)


def _fixed(finding: Finding, *, wanted: bool) -> tuple[bool, str]:
    if not wanted or finding.fix is None:
        return False, ""
    try:
        return True, finding.fix()
    except WgsvcError as error:
        return False, f"could not be fixed: {error.message}"

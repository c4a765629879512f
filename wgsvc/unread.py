"""Files that look like tunnels, or parts of one, and that nothing reads because of their names."""

from __future__ import annotations

import os

from wgsvc.config.findings import Findings
from wgsvc.config.model import Diagnostic
from wgsvc.config.names import LENGTH_MAX, check_name, usable
from wgsvc.errors import shell_word
from wgsvc.files import FREEBSD, listed
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.settings import Settings

ENDING = ".conf"
_SMALL_LETTERS = f"a configuration file ends in {ENDING}, in small letters"


def unread(settings: Settings) -> tuple[Diagnostic, ...]:
    """
    Return a warning for each such file in the configuration folders, with the cure.

    What is hidden, or has something behind `.conf` (`wg0.conf.previous`), was put aside on purpose.
    Raises: WgsvcError if a folder can't be read.
    """
    findings = Findings()
    for folder in settings.config_dirs:
        entries = dict.fromkeys(listed(folder))
        for entry in entries:
            path = os.path.join(folder, entry)
            if entry[0] == ".":
                continue
            if entry.lower().endswith(ENDING):
                _check_file(path, findings)
            elif entry.endswith(f"{ENDING}.d") and os.path.isdir(path):
                if entry.removesuffix(".d") in entries:
                    _check_dropins(path, findings)
                else:
                    why = f"there is no {path.removesuffix('.d')}, whose part it is"
                    _warn(findings, path, why, rule="the file it belongs to is not there")
    return findings.diagnostics()


def _check_file(path: str, findings: Findings) -> None:
    folder, entry = os.path.split(path)
    name = entry[: -len(ENDING)]
    reason = check_name(name, freebsd=FREEBSD)
    if not reason and not entry.endswith(ENDING):
        reason = _SMALL_LETTERS
    if reason:
        better = "".join(letter if usable(letter) else "-" for letter in name).lstrip("-")
        if check_name(better[:LENGTH_MAX], freebsd=FREEBSD):
            better = f"wg-{better}"
        _warn(findings, path, reason, os.path.join(folder, better[:LENGTH_MAX] + ENDING))


def _check_dropins(folder: str, findings: Findings) -> None:
    for entry in listed(folder):
        small = entry.lower()
        if entry.endswith(ENDING) or entry[0] == "." or entry[-1] == "~":
            continue
        if small.endswith(ENDING):
            better = os.path.join(folder, entry[: -len(ENDING)] + ENDING)
            _warn(findings, os.path.join(folder, entry), _SMALL_LETTERS, better)
        elif ENDING not in small:
            path = os.path.join(folder, entry)
            _warn(findings, path, f"of this folder only *{ENDING} is")


def _warn(findings: Findings, path: str, reason: str, better: str = "", *, rule: str = "") -> None:
    """Warn of one file; `better` is the path under which it would be read."""
    rule = rule or reason
    if not findings.wants("warning", "", rule):
        return
    cure = ""
    if better and better != path and not os.path.lexists(better):
        cure = f"mv {shell_word(path)} {shell_word(better)}"
    findings.add(Diagnostic("warning", path, 0, 0, "", f"is not read: {reason}", cure), rule)

"""What rclint and the Porter's Handbook ask of an rc.d script, and the port's copy of it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _text(*path: str) -> str:
    with open(os.path.join(TREE, *path)) as file:
        return file.read()


SCRIPT = _text("rc.d", "wireguard")
LINES = SCRIPT.splitlines()


def test_headers_are_those_rcorder_reads() -> None:
    assert LINES[0] == "#!/bin/sh"
    assert [line for line in LINES if line.startswith(("# PROVIDE", "# REQUIRE", "# KEYWORD"))] == [
        "# PROVIDE: wireguard",
        "# REQUIRE: NETWORKING",
        "# KEYWORD: nojailvnet shutdown",
    ]


def test_order_is_that_of_rc_subr() -> None:
    order = [". /etc/rc.subr", 'name="wireguard"', "rcvar=", "load_rc_config $name"]
    order += [': ${wireguard_enable:="NO"}', 'wireguard_svcj="NO"', 'run_rc_command "$@"']
    found = [next(n for n, line in enumerate(LINES) if line.startswith(each)) for each in order]
    assert found == sorted(found)
    assert LINES[-1] == 'run_rc_command "$@"'


def test_is_tidy() -> None:
    assert SCRIPT.endswith("\n")
    for line in LINES:
        assert line == line.rstrip()
        assert len(line.expandtabs(8)) <= 100


def test_every_variable_is_documented() -> None:
    import re

    header = SCRIPT[: SCRIPT.index(". /etc/rc.subr")]
    defaults = re.findall(r"^: \$\{(\w+):?=", SCRIPT, re.MULTILINE)
    assert len(defaults) == 5
    for variable in (*defaults, "wireguard_backend", "wireguard_fib", "wireguard_routes"):
        assert f"# {variable}=" in header


def test_the_ports_copy_is_the_same_script() -> None:
    port = _text("ports", "net", "wgsvc", "files", "wireguard.in")
    assert port == SCRIPT.replace("/usr/local", "%%PREFIX%%")


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_parses(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    subprocess.run([program, "-n", os.path.join(TREE, "rc.d", "wireguard")], check=True)

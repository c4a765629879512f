"""
Which hook fails: the same snippets to wg-quick and to wgsvc; under sh what POSIX says.

A snippet is the first PreUp of a file. The second one notes that it was reached, which it is
only if the first has not failed, and ends the start: so wg-quick makes no interface at all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tunnels import Host, script

pytestmark = pytest.mark.root

SAID = Path("/run/said")
NOTED = "reached"

BASH = [
    "true",
    "false",
    "false; true",
    "false | true",
    "true | false",
    "true | false | true",
    "false |& true",
    "false || true",
    "true && false",
    "false && true",
    "false && true; true",
    "false || false; true",
    "! true",
    "! true; true",
    "! false",
    "! false | true; true",
    "if false; then :; fi",
    "if true; then false; fi; true",
    "if false; then :; else false; fi; true",
    "while false; do :; done",
    "until true; do false; done",
    "for i in 1; do false; done; true",
    "for i in 1 2; do [ $i = 2 ] && break; done",
    "case x in x) false;; esac; true",
    "(false; true)",
    "(false; true) || true",
    "(exit 3); true",
    "{ false; true; }",
    "{ false; echo went on >>/run/said; } || true",
    "f() { false; true; }; f",
    "f() { false; echo went on >>/run/said; }; f || true",
    "f() { false; true; }; if f; then :; fi",
    "x=$(false); true",
    "x=$(false; echo y); echo $x >>/run/said",
    "echo $(false) >>/run/said",
    "eval false; true",
    "eval 'false; true'",
    "command false; true",
    "nosuchcommand; true",
    "nosuchcommand || true",
    "exit 0; false",
    "exit 4",
    "exec true; false",
    "exec false",
    "kill -9 $BASHPID; true",
    "false & true",
    "false & wait $!; true",
    "set +e; false; true",
    "set +o pipefail; false | true",
    "trap 'echo at exit >>/run/said' EXIT; false; true",
    "trap 'echo on error >>/run/said' ERR; false; true",
    "[[ a = b ]]; true",
    "[[ a = b ]] || true",
    "[[ a = b ]] && true; true",
    "[ 1 = 2 ] && true",
    "((0)); true",
    "((1))",
    "let 0; true",
    "[[ abc == @(abc|x) ]]",
    "case abc in @(abc|x)) echo matched >>/run/said;; esac",
    "echo /+(e)tc >>/run/said",
    "echo /!(nothing)/wireguard/. >>/run/said",
    "cat <<<here >>/run/said",
    "grep -q nothing <<<here; true",
    "read x </dev/null; true",
    "read x </dev/null || true",
    "read x y <<<'a b c'; echo $y >>/run/said",
    "echo a | while read x; do false; done; true",
    "while read x; do echo $x >>/run/said; done < <(echo a; false)",
    "diff <(echo a) <(echo b) >/dev/null; true",
    ": >/nowhere/at/all; true",
    "echo a >/nowhere/at/all || true",
    "echo $NOT_SET_AT_ALL; true",
    "a=(1 2); echo ${a[1]} >>/run/said",
    "printf '%q %s' 'a b' $'c' >>/run/said",
    "yes | head -n 1 >>/run/said",
    "{ yes || true; } | head -n 1 >>/run/said",
    "if true",
    "echo (",
    "shopt -q extglob; shopt -qo errexit; shopt -qo pipefail",
    "echo LC_ALL=$LC_ALL >>/run/said",
    "echo é | wc -m >>/run/said",
    "printf '%s\\n' b A a B | sort >>/run/said",
    "echo %i %%i >>/run/said",
]


def write(host: Host, snippet: str) -> Path:
    host.tunnel("wg0", f"PreUp = {snippet}", f"PreUp = echo {NOTED} >>{SAID}; exit 9")
    host.startable.clear()
    SAID.unlink(missing_ok=True)
    return Path("/etc/wireguard/wg0.conf")


def said() -> list[str]:
    return SAID.read_text().splitlines() if SAID.exists() else []


def by_wgsvc(host: Host, snippet: str) -> list[str]:
    write(host, snippet)
    assert host.wgsvc("start", "wg0").code == 71
    return said()


def by_wg_quick(host: Host, snippet: str) -> list[str]:
    path = write(host, snippet)
    done = subprocess.run(
        ["wg-quick", "up", str(path)],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode != 0
    return said()


@pytest.mark.timeout(180)
def test_in_bash_the_same_snippets_fail_as_under_wg_quick(host: Host) -> None:
    """And what they do before that, and how they understand their words, is the same."""
    ours = {snippet: by_wgsvc(host, snippet) for snippet in BASH}
    theirs = {snippet: by_wg_quick(host, snippet) for snippet in BASH}

    assert ours == theirs
    passed = [snippet for snippet, lines in ours.items() if NOTED in lines]
    assert 20 < len(passed) < len(BASH) - 20  # else this says nothing


POSIX = {
    "true": True,
    "false": False,
    "false; true": False,
    "true | false": False,
    "false || true": True,
    "false && true; true": True,
    "! true; true": True,
    "if false; then :; fi": True,
    "if true; then false; fi; true": False,
    "while false; do :; done": True,
    "for i in 1; do false; done; true": False,
    "(false; true)": False,
    "(false; true) || true": True,
    "f() { false; true; }; f; true": False,
    "f() { false; true; }; f || true": True,
    "x=$(false); true": False,
    "eval 'false; true'": False,
    "nosuchcommand; true": False,
    "set +e; false; true": True,
    "exit 0; false": True,
    "if true": False,
}
WITH_PIPEFAIL = {
    "false | true": False,
    "true | false | true": False,
    "false | true || true": True,
}


def has_pipefail(shell: str) -> bool:
    probe = [shell, "-c", "(set -o pipefail) 2>/dev/null"]
    return subprocess.run(probe, check=False, timeout=10).returncode == 0


def shells(tmp_path: Path) -> list[str]:
    """Return shells of several families, those of this machine, under names that are not bash."""
    (tmp_path / "sh").symlink_to(str(shutil.which("bash")))  # POSIX mode
    found = ["/bin/sh", str(tmp_path / "sh")]
    busybox = shutil.which("busybox")
    if busybox:
        found.append(script(tmp_path / "ash", f'#!/bin/sh\nexec {busybox} sh "$@"\n'))
    return found + [path for name in ("mksh", "zsh", "yash") if (path := shutil.which(name))]


@pytest.mark.timeout(180)
def test_in_other_shells_what_posix_says_and_pipefail_where_they_have_it(
    host: Host, tmp_path: Path
) -> None:
    for shell in shells(tmp_path):
        host.options = ["--set", f"hook_shell={shell}"]
        wanted = {**POSIX, **(WITH_PIPEFAIL if has_pipefail(shell) else {})}

        passes = {snippet: NOTED in by_wgsvc(host, snippet) for snippet in wanted}

        assert passes == wanted, shell


@pytest.mark.parametrize("family", ["sh", "none"])
def test_a_shell_without_pipefail_or_e_is_told_of_once(
    host: Host, tmp_path: Path, family: str
) -> None:
    """As dash before 0.5.13 does: an option that it does not know ends it."""
    unknown = {"sh": "*pipefail*", "none": "-e*"}[family]
    shell = script(
        tmp_path / "shell",
        f'#!/bin/sh\ncase "$*" in {unknown}) echo illegal option >&2; exit 2;; esac\n'
        'exec sh "$@"\n',
    )
    host.options = ["--set", f"hook_shell={shell}"]
    host.tunnel(
        "wg0",
        "PreUp = true || false",
        "PreUp = false | true",
        "PostUp = echo went on | cat",
        "PostDown = true | true",
    )

    began = host.ok("start", "wg0")
    ended = host.ok("stop", "wg0")

    word = {"sh": "has no pipefail", "none": "has no -e"}[family]
    assert f"{shell} {word}: only the last command of a" in began.err
    assert began.err.count(word) == 1
    assert ended.err.count(word) == 0
    assert host.log().count(word) == 1
    assert "illegal option" not in began.said + host.log()
    assert "went on\n" in began.err


def test_a_hook_without_a_pipe_is_no_business_of_pipefail(host: Host, tmp_path: Path) -> None:
    shell = script(
        tmp_path / "shell", '#!/bin/sh\ncase "$*" in *pipefail*) exit 2;; esac\nexec sh "$@"\n'
    )
    host.options = ["--set", f"hook_shell={shell}"]
    host.tunnel("wg0", "PostUp = false || true")

    assert "pipefail" not in host.ok("start", "wg0").said


def test_a_shell_is_found_out_about_once(host: Host, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shell = script(tmp_path / "shell", f'#!/bin/sh\necho >>{runs}\nexec sh "$@"\n')
    host.options = ["--set", f"hook_shell={shell}"]
    host.tunnel("wg0", *["PostUp = true"] * 5)

    host.ok("start", "wg0")

    tries = 1 if has_pipefail(os.path.realpath("/bin/sh")) else 2
    assert len(runs.read_text().splitlines()) == 5 + tries

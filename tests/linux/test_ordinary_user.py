"""What users who are not root are told: never that nothing runs where they may not look."""

from __future__ import annotations

import functools
import grp
import json
import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.tunnels import CONFIG_DIR, ROOT, RUN_DIR, Host, Result, eventually

pytestmark = pytest.mark.root

USER, GROUP, OTHER_GROUP = 4711, 4712, 4713  # in no database: numbers are all that the kernel knows
SOCKET = RUN_DIR / "control.sock"
REFUSED = [
    ("stop",), ("stop", "wg0"), ("stop", "all"), ("start", "wg0"), ("start", "all"),
    ("restart", "wg0"), ("reload",), ("reload", "wg0"), ("reload", "all"), ("save", "wg0"),
    ("save", "all"), ("plan", "wg0"), ("daemon",), ("daemon", "--replace"),
]  # fmt: skip
"""Everything that asks a supervisor for more than its status."""

STATUS = [("status",), ("status", "wg0"), ("status", "--json"), ("status", "--metrics")]


ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@functools.cache
def python() -> str:
    """Return an interpreter that an ordinary user may run, with this tree in reach."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [candidate, "-c", "import wgsvc.cli, daemon"],
                env=ENVIRONMENT, check=True, user=USER, group=USER, extra_groups=(), timeout=20,
                stderr=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("an ordinary user can't reach Python or this tree here")


def as_user(host: Host, *words: str, groups: tuple[int, ...] = ()) -> Result:
    """Run a command as an ordinary user, who is in these groups too."""
    done = subprocess.run(
        [python(), "-m", "wgsvc", *words],
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        user=USER,
        group=USER,
        extra_groups=groups,
    )
    host.said += [done.stdout, done.stderr]
    return Result(done.returncode, done.stdout, done.stderr, 0.0)


def refused(result: Result) -> None:
    """Fail unless it was refused, with the one thing that helps."""
    assert result.code == 77, result.said
    assert result.out == ""
    assert "run as root" in result.err
    assert "chown" not in result.err
    assert "no tunnel" not in result.err
    assert "Traceback" not in result.err


def running(host: Host, **settings: str) -> int:
    """Start wg0 under these settings of wgsvc.toml; return the PID of its wireguard-go."""
    toml = CONFIG_DIR / "wgsvc.toml"
    toml.write_text("".join(f'{key} = "{value}"\n' for key, value in settings.items()))
    toml.chmod(0o644)
    host.tunnel("wg0")
    host.ok("start", "wg0")
    return host.daemon()


def test_with_a_tunnel_up_everything_is_refused(host: Host) -> None:
    pid = running(host)

    for words in (*STATUS, *REFUSED):
        refused(as_user(host, *words))

    assert host.daemon() == pid
    assert host.state()["state"] == "up"


def test_what_no_supervisor_runs_is_not_told_either(host: Host) -> None:
    running(host)
    host.kill(host.supervisor())

    for words in STATUS:
        refused(as_user(host, *words))


def test_where_everybody_may_look_and_nothing_is_that_is_told(host: Host) -> None:
    assert as_user(host, "status") == Result(3, "no tunnel is running\n", "", 0.0)


def test_start_where_files_may_not_be_looked_at(host: Host) -> None:
    host.tunnel("wg0")
    refused(as_user(host, "start", "wg0"))  # the file may not be read
    CONFIG_DIR.chmod(0o700)
    for words in (("start", "wg0"), ("start", "all"), ("plan", "wg0"), ("restart", "wg0")):
        result = as_user(host, *words)
        assert "no such file" not in result.err
        refused(result)
    assert as_user(host, "check", "wg0").code == 77
    CONFIG_DIR.chmod(0o755)
    host.untouched()


def test_status_where_another_run_directory_may_be_set(host: Host) -> None:
    CONFIG_DIR.chmod(0o700)

    refused(as_user(host, "status"))
    assert as_user(host, "--run-dir", "/run/wgsvc", "status").code == 3
    CONFIG_DIR.chmod(0o755)


def test_a_file_that_may_be_read_and_a_folder_that_may_not_be_made(host: Host) -> None:
    host.tunnel("wg0").chmod(0o644)
    Path("/run/wgsvc.made").mkdir(0o755)
    host.startable.clear()

    refused(as_user(host, "start", "wg0"))
    eventually(lambda: not host.strangers())


# --- status_group


def test_a_member_may_ask_for_the_status(host: Host) -> None:
    running(host, status_group=str(GROUP))

    for words in STATUS:
        told = as_user(host, *words, groups=(OTHER_GROUP, GROUP))

        assert told.code == 0, told.said
        assert told.err == ""
        if "--json" in words:
            mine, roots = (json.loads(each)["tunnels"] for each in (told.out, host.ok(*words).out))
            assert mine == roots
        else:
            assert "wg0" in told.out


def test_a_member_may_ask_for_nothing_else(host: Host) -> None:
    pid = running(host, status_group=str(GROUP))

    for words in REFUSED:
        refused(as_user(host, *words, groups=(GROUP,)))

    assert (host.daemon(), len(host.supervisors())) == (pid, 1)
    assert host.state()["state"] == "up"


def test_those_who_are_no_members_do_not_even_get_to_the_socket(host: Host) -> None:
    running(host, status_group=str(GROUP))

    for path, mode in ((RUN_DIR, 0o750), (SOCKET, 0o660)):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (0, GROUP)
        assert stat.S_IMODE(found.st_mode) == mode
    for words in STATUS:
        refused(as_user(host, *words, groups=(OTHER_GROUP,)))
    assert "refused" not in host.log()
    assert stat.S_IMODE((RUN_DIR / "wg0.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("groups", [(), (GROUP,)], ids=str)
def test_the_supervisor_looks_itself_who_asks(host: Host, groups: tuple[int, ...]) -> None:
    pid = running(host, status_group=str(GROUP))
    RUN_DIR.chmod(0o755)
    SOCKET.chmod(0o666)

    for words in (*STATUS, *REFUSED):
        told = host.log().count(f"uid {USER}, PID ")
        result = as_user(host, *words, groups=groups)
        if words in STATUS and groups:
            assert result.code == 0, result.said
            continue
        refused(result)
        # `daemon` asks nobody: it is refused by the folder itself.
        assert words == ("daemon",) or host.log().count(f"uid {USER}, PID ") > told
    assert host.daemon() == pid


def test_what_a_member_sends_along_has_no_say(host: Host) -> None:
    running(host, status_group=str(GROUP))
    request = {
        "verb": "status",
        "names": [],
        "options": {"set": ["hooks=off", "step_timeout_s=1"], "config_dirs": ["/"]},
    }
    code = (
        "import socket, sys\n"
        "caller = socket.socket(socket.AF_UNIX)\n"
        f"caller.connect({str(SOCKET)!r})\n"
        "caller.sendall(sys.argv[1].encode() + b'\\n')\n"
        "print(caller.makefile().read())\n"
    )
    done = subprocess.run(
        [python(), "-c", code, json.dumps(request)],
        check=True, capture_output=True, text=True, user=USER, group=GROUP, extra_groups=(),
    )  # fmt: skip

    assert '"name":"wg0"' in done.stdout
    host.tunnel("wg0", "PostUp = touch /run/hooked")
    host.ok("restart", "wg0")
    assert Path("/run/hooked").exists()


def test_a_group_by_name_that_comes_and_goes_with_a_setting(host: Host) -> None:
    name = os.environ.get("WGSVC_TEST_GROUP", "daemon")
    group = grp.getgrnam(name).gr_gid
    running(host)
    refused(as_user(host, "status", groups=(group,)))

    host.ok("--set", f"status_group={name}", "start", "wg0")
    assert as_user(host, "status", groups=(group,)).code == 0
    host.kill(host.supervisor())
    host.ok("start", "wg0")  # it is noted for the next supervisor
    assert as_user(host, "status", groups=(group,)).code == 0
    host.ok("--set", "status_group=", "start", "wg0")
    refused(as_user(host, "status", groups=(group,)))


def test_a_group_that_there_is_not_is_told_and_lets_nobody_in(host: Host) -> None:
    running(host, status_group="no-such-group")

    assert "status_group: there is no group no-such-group" in host.log()
    assert "status_group: there is no group no-such-group" in host.wgsvc("doctor").out
    assert stat.S_IMODE(SOCKET.stat().st_mode) == 0o600
    assert host.state()["state"] == "up"


def test_without_a_supervisor_a_member_is_told_what_can_be_seen(host: Host) -> None:
    running(host, status_group=str(GROUP))
    host.kill(host.supervisor())

    told = as_user(host, "status", "--json", groups=(GROUP,))

    assert told.code == 1, told.said
    (table,) = json.loads(told.out)["tunnels"]
    assert table["state"] == "unsupervised"
    assert "wgsvc start wg0" in table["reason"]
    assert "root alone" in table["reason"]
    assert table["addresses"] == ["10.1.0.1/24", "fd00:1::1/64"]
    refused(as_user(host, "stop", groups=(GROUP,)))


def test_a_member_needs_not_to_read_wgsvc_toml(host: Host) -> None:
    running(host, status_group=str(GROUP))
    (CONFIG_DIR / "wgsvc.toml").chmod(0o600)

    assert as_user(host, "status", groups=(GROUP,)).code == 0
    CONFIG_DIR.chmod(0o700)
    assert as_user(host, "status", groups=(GROUP,)).code == 0
    CONFIG_DIR.chmod(0o755)


def test_members_who_never_ask_do_not_keep_root_out(host: Host) -> None:
    running(host, status_group=str(GROUP))
    code = (
        "import socket, sys\n"
        f"callers = [socket.socket(socket.AF_UNIX) for _ in range(100)]\n"
        f"for caller in callers: caller.connect({str(SOCKET)!r})\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [python(), "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=USER, group=GROUP, extra_groups=(),
    ) as crowd:  # fmt: skip
        host.foreign.append(crowd)
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == b"ready\n"
        began = host.ok("status")
        assert began.took_s < 3
        busy = as_user(host, "status", groups=(GROUP,))
        assert busy.code in (0, 75), busy.said
        assert crowd.stdin is not None
        crowd.stdin.close()
        host.foreign.clear()
    eventually(lambda: as_user(host, "status", groups=(GROUP,)).code == 0)

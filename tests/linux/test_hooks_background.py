"""What a hook leaves running: it lives, it is read, and it is in nobody's way."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.tunnels import Host, alive, descriptors, eventually, script

pytestmark = pytest.mark.root

PID = Path("/run/left")
COUNT = Path("/run/count")
LOOP = (
    f"while :; do echo x; echo x >&2; echo >>{COUNT}; sleep .01; done & echo $! >{PID}; echo begun"
)


def left(host: Host) -> int:
    """Return the process that the hook left; nobody else ends it."""
    pid = int(PID.read_text())
    assert alive(pid)
    host.startable.clear()  # a start more would leave one more
    return pid


def goes_on(lines: int = 10) -> None:
    """Wait until it has written that much more."""
    before = len(COUNT.read_text())
    eventually(lambda: len(COUNT.read_text()) >= before + lines, what="it goes on")


def end(host: Host, pid: int) -> None:
    host.kill(pid)
    eventually(lambda: not host.strangers(), what="nothing is left")


def test_it_lives_and_its_lines_are_logged(host: Host) -> None:
    host.tunnel("wg0", f"PostUp = {LOOP}")

    result = host.ok("start", "wg0")

    pid = left(host)
    assert "begun\n" in result.err
    assert result.took_s < 5
    seen = host.log().count("wg0: PostUp: x")
    eventually(lambda: host.log().count("wg0: PostUp: x") > seen + 10, what="it is read")
    host.ok("stop", "wg0")
    goes_on()
    assert host.supervisors() == []
    end(host, pid)


def test_wg_quick_lets_it_live_too(host: Host) -> None:
    path = host.tunnel("wg0", f"PostUp = {LOOP}")
    with open("/run/output", "w", encoding="ascii") as output:
        subprocess.run(
            ["wg-quick", "up", str(path)], check=True, stdout=output, stderr=output, timeout=20
        )

    pid = left(host)
    goes_on()
    subprocess.run(["wg-quick", "down", str(path)], check=True, capture_output=True, timeout=20)
    goes_on()
    end(host, pid)


@pytest.mark.parametrize("how", ["killed", "replaced"])
def test_it_outlives_the_supervisor(host: Host, how: str) -> None:
    host.tunnel("wg0", f"PostUp = {LOOP}")
    host.ok("start", "wg0")
    pid, supervisor = left(host), host.supervisor()

    if how == "killed":
        host.kill(supervisor)
    else:
        host.ok("daemon", "--replace")

    eventually(lambda: not alive(supervisor))
    goes_on()
    host.ok("stop", "wg0")
    goes_on()
    end(host, pid)


def test_it_outlives_the_supervisor_also_with_no_descriptor_but_its_output(
    host: Host, tmp_path: Path
) -> None:
    """As what sudo or Python's subprocess starts: they close all but 0, 1 and 2."""
    starter = script(
        tmp_path / "starter",
        "#!/usr/bin/env python3\n"
        "import subprocess, sys\n"
        "subprocess.Popen(['bash', '-c', sys.argv[1]], close_fds=True)\n",
    )
    host.tunnel("wg0", f"PostUp = {starter} '{LOOP}'")
    host.ok("start", "wg0")
    eventually(lambda: PID.exists() and PID.read_text().strip())
    pid = left(host)

    host.kill(host.supervisor())

    goes_on()
    host.ok("stop", "wg0")
    end(host, pid)


def test_pipes_within_a_hook_still_break(host: Host) -> None:
    """Who writes into a pipe that nobody reads has to die: SIGPIPE is as the system has it."""
    drawn = "{ tr -dc a-z </dev/urandom || true; } | head -c 16 >/run/drawn"
    host.tunnel("wg0", f"PostUp = {drawn}")

    host.ok("start", "wg0")

    assert len(Path("/run/drawn").read_text()) == 16


def test_lines_are_told_whole(host: Host, tmp_path: Path) -> None:
    """Also those that come in two pieces, or that never end."""
    program = script(
        tmp_path / "writes",
        "#!/usr/bin/env python3\n"
        "import os, time\n"
        "def write(text):\n"
        "    os.write(1, text.encode())\n"
        "    time.sleep(0.05)\n"
        "write('of two ')\n"
        "write('pieces\\nin \\u00e9')\n"
        "os.write(1, b'\\xc3')\n"
        "time.sleep(0.05)\n"
        "os.write(1, b'\\xa9!\\n\\nempty before\\n')\n"
        "write('#' * 5000)\n"
        "write('without an end')\n",
    )
    host.tunnel("wg0", f"PostUp = {program} & echo the hook itself", f"PreDown = {program}")
    host.ok("start", "wg0")

    eventually(lambda: "without an end" in host.log())
    assert "wg0: PostUp: of two pieces\n" in host.log()
    assert "wg0: PostUp: in éé!\n" in host.log()
    assert "wg0: PostUp: \n" in host.log()
    assert host.log().count("#") == 5000
    told = host.ok("stop", "wg0").err
    assert "of two pieces\nin éé!\n\nempty before\n###" in told
    assert told.count("#") - told.count("[#]") == 5000
    assert told.endswith("without an end\n") or "without an end\n[#]" in told


def test_more_than_64_kib_are_read_and_dropped(host: Host) -> None:
    """So that nothing waits for a reader."""
    line = "y" * 99
    chatty = f"(for i in $(seq 5000); do echo {line}; done; echo >{COUNT}) & echo $! >{PID}"
    host.tunnel("wg0", f"PostUp = {chatty}")

    host.ok("start", "wg0")

    eventually(COUNT.exists, what="all of it was written")
    eventually(lambda: "the rest is dropped" in host.log())
    shown = host.log().count(line)
    assert 600 < shown < 700
    assert host.log().count("the rest is dropped") == 1
    host.startable.clear()


def test_no_descriptor_is_left_of_it(host: Host) -> None:
    host.tunnel("wg0", f"PostDown = {LOOP}")
    host.tunnel("wg1", f"PostUp = {LOOP}", number=2)
    host.tunnel("wg2", f"PostUp = {LOOP}; exit 3", number=3)
    host.ok("start", "wg0")
    supervisor = host.supervisor()

    def pipes() -> int:
        return sum(what.startswith("pipe:") for what in descriptors(supervisor).values())

    def is_read(pid: int) -> bool:
        return descriptors(pid)[1] in descriptors(supervisor).values()

    host.ok("start", "wg1")
    first = left(host)
    assert is_read(first)
    host.ok("stop", "wg1")
    eventually(lambda: not is_read(first), what="the tunnel's end closes it")
    assert alive(first)
    before = pipes()
    host.ok("start", "wg1")
    second = left(host)
    assert pipes() == before + 1
    host.kill(second, signal.SIGTERM)
    eventually(lambda: pipes() == before, what="its own end closes it")
    host.ok("stop", "wg1")
    assert host.wgsvc("start", "wg2").code == 71
    third = left(host)
    eventually(lambda: not is_read(third), what="a roll-back closes it")
    assert pipes() == before

    host.ok("stop", "wg0")

    fourth = left(host)
    eventually(lambda: not alive(supervisor), what="the supervisor ends all the same")
    for pid in {first, third, fourth}:
        host.kill(pid)
    eventually(lambda: not host.strangers())

"""Files that no command reads for their names: every `all` says so; wg-quick takes none either."""

from __future__ import annotations

import subprocess

import pytest

from tests.tunnels import CONFIG_DIR, Host

pytestmark = pytest.mark.root

NAMES = ("bad name.conf", "averyveryverylongname.conf", "wg7.CONF")
NOTHING = {"start": 64, "restart": 64, "reload": 0, "plan": 0, "check": 78}
"""Exit status where no other file is there."""


def passed_over(host: Host) -> None:
    """Write files that nothing reads."""
    host.tunnel("wg0")
    for name in NAMES:
        (CONFIG_DIR / name).write_bytes((CONFIG_DIR / "wg0.conf").read_bytes())
        (CONFIG_DIR / name).chmod(0o600)
    (CONFIG_DIR / "wg0.conf.d").mkdir(mode=0o755)
    (CONFIG_DIR / "wg0.conf.d" / "laptop.CONF").write_text("")


@pytest.mark.parametrize("verb", ["start", "restart", "reload", "plan", "check"])
def test_all_says_what_it_passes_over(host: Host, verb: str) -> None:
    passed_over(host)

    said = host.ok(verb, *([] if verb == "check" else ["all"])).said

    for name in (*NAMES, "wg0.conf.d/laptop.CONF"):
        assert f"{CONFIG_DIR}/{name}: warning: is not read: " in said, said
    assert said.count("is not read") == 4


@pytest.mark.parametrize("verb", NOTHING)
def test_also_where_there_is_no_other_file(host: Host, verb: str) -> None:
    passed_over(host)
    (CONFIG_DIR / "wg0.conf").unlink()
    host.startable.clear()

    result = host.wgsvc(verb, *([] if verb == "check" else ["all"]))

    for name in (*NAMES, "wg0.conf.d"):
        assert f"{CONFIG_DIR}/{name}: warning: is not read: " in result.said, result.said
    assert result.code == NOTHING[verb]


def test_by_name_they_are_not_read_by_wg_quick_either(host: Host) -> None:
    passed_over(host)

    for name in NAMES:
        theirs = subprocess.run(
            ["wg-quick", "strip", CONFIG_DIR / name], capture_output=True, check=False
        )
        assert theirs.returncode != 0
        assert host.wgsvc("start", str(CONFIG_DIR / name)).code == 78

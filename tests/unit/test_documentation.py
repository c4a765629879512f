"""What the documentation names is there, and what is there is named."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from wgsvc import cli, errors, settings
from wgsvc.config import directives
from wgsvc.report import prometheus

ROOT = Path(__file__).parents[2]


def text(*path: str) -> str:
    return ROOT.joinpath(*path).read_text()


def without_macros(page: str) -> str:
    """Return a man page as the words that its reader sees, roughly."""
    page = re.sub(r"^\.\\\".*$", "", page, flags=re.MULTILINE)
    page = re.sub(r"\bFl (\w)", r"-\1", page)  # Fl -json, Fl q
    page = re.sub(r"\bFl -", "--", page)
    return re.sub(r" Ns ?", "", page)


COMMANDS = without_macros(text("man", "wgsvc.8"))
FILES = without_macros(text("man", "wgsvc.conf.5"))
OPERATION = text("docs", "operation.md")
CONFIG = text("docs", "config.md")
ARCHITECTURE = text("docs", "architecture.md")
README = text("README.md")
GUIDES = {"README.md": README, "operation.md": OPERATION, "config.md": CONFIG}

SETTINGS = {
    *settings._CHOICES, *settings._SECONDS, *settings._TEXTS, *settings._GROUPS, "run_dir",
    "config_dir",
}  # fmt: skip
DEFAULTS = settings.Settings()._asdict()


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading of a Markdown page."""
    after = page[page.index(f"\n{heading}\n") :]
    table = re.search(r"^\|(?!-)[^\n]*\n\|-[^\n]*\n((?:\|[^\n]*\n)+)", after, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def options_of(verb: str) -> set[str]:
    parser = argparse.ArgumentParser(add_help=False)
    cli._command(verb).add_arguments(parser)
    return {word for action in parser._actions for word in action.option_strings}


def test_settings_are_all_that_is_taken() -> None:
    """The rest of this file relies on it."""
    with pytest.raises(errors.ConfigError) as refused:
        settings._checked("", "no such thing", 0)

    assert set(refused.value.message.rpartition("there are ")[2].split(", ")) == {
        *SETTINGS, "tunnel",
    }  # fmt: skip


def entry_of(verb: str) -> str:
    """Return what the man page says of a command: from its entry to the next one."""
    listed = COMMANDS[COMMANDS.index("The verbs are:") : COMMANDS.index(".Sh FILES AND WHAT")]
    entries = re.split(rf"^(?=\.It Cm (?:{'|'.join(cli.VERBS)})\b)", listed, flags=re.MULTILINE)
    return next(entry for entry in entries if verb in entry.splitlines()[0].split())


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_command_and_its_options_are_described(verb: str) -> None:
    name, _, told = next(row for row in rows(OPERATION, "## Commands") if verb in quoted(row[0]))
    entry = entry_of(verb)
    if verb == "restart":
        assert told == "as `start`"
        assert "options are those of" in entry
        return

    assert set(re.findall(r"--[a-z-]+", told)) == options_of(verb), name
    if verb not in ("up", "down"):  # there the page says whose other names they are
        assert options_of(verb) <= set(re.findall(r"--[a-z-]+", entry))


def test_no_command_is_described_that_there_is_not() -> None:
    described = {verb for row in rows(OPERATION, "## Commands") for verb in quoted(row[0])[:2]}
    entries = COMMANDS[COMMANDS.index("The verbs are:") : COMMANDS.index(".Sh FILES AND WHAT")]
    listed = re.findall(r"^\.It Cm ([\w-]+)(?: , ([\w-]+))?", entries, re.MULTILINE)

    assert described == set(cli.VERBS)
    assert {verb for pair in listed for verb in pair if verb} == set(cli.VERBS)


@pytest.mark.parametrize("page", GUIDES)
def test_examples_call_commands_that_there_are(page: str) -> None:
    options = r"(?: -[\w.=-]+(?: [A-Z_]+)?)*"
    called = re.findall(rf"(?:`|^    |&& |; )wgsvc{options} ([a-z-]+)", GUIDES[page], re.MULTILINE)

    assert called
    assert [verb for verb in called if verb not in cli.VERBS] == []


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_a_setting_is_described(key: str) -> None:
    row = next(row for row in rows(CONFIG, "## Settings") if quoted(row[0]) == [key])
    entry = re.search(rf"^\.It Cm {key}(?: No = (?:Qq )?(\S+))?$", FILES, re.MULTILINE)

    assert entry
    default = DEFAULTS.get(key)
    if key in ("hook_shell", "config_dir", "status_group"):
        assert entry[1] is None
        return
    assert entry[1] == (f"{default:g}" if isinstance(default, float) else default)
    assert quoted(row[1])[0].strip('"') == entry[1]
    for choice in settings._CHOICES.get(key, ()):
        assert f'"{choice}"' in row[1] + row[2]
        assert choice in FILES


def test_no_setting_is_described_that_there_is_not() -> None:
    listed = FILES[FILES.index(".Sh SETTINGS") : FILES.index(".Sh SECURITY")]

    assert {quoted(row[0])[0] for row in rows(CONFIG, "## Settings")} == SETTINGS
    assert set(re.findall(r"^\.It Cm (\w+)", listed, re.MULTILINE)) == {
        *SETTINGS, *settings.TUNNEL_KEYS,
    }  # fmt: skip
    assert [key for key in settings.TUNNEL_KEYS if f"`{key}`" not in CONFIG] == []


def test_options_before_the_verb_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli._parse(["--help"])
    shown = capsys.readouterr().out
    options = set(re.findall(r"--[a-z-]+", shown[shown.index("--help") :]))

    assert {"--set", "--help", "--quiet"} <= options
    assert {option for option in options if option not in COMMANDS} == set()
    assert {option for option in options if option not in OPERATION} == set()


@pytest.mark.parametrize("key", directives._PEER_KEYS + directives._INTERFACE_KEYS)
def test_a_comment_for_us_is_described(key: str) -> None:
    assert f"# wgsvc: {key} = " in FILES
    assert f"# wgsvc: {key} = " in CONFIG


def test_every_exit_status_is_described() -> None:
    codes = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")}
    told = {int(row[0]) for row in rows(OPERATION, "## Exit status")}

    assert len(codes) > 5
    assert codes | {1, 2, 3, 130} == told
    assert {code for code in told if code > 3 and f".It {code}\n" not in COMMANDS} == set()


def test_every_variable_of_rc_conf_is_described() -> None:
    script = text("rc.d", "wireguard")
    header = script[: script.index(". /etc/rc.subr")]
    variables = set(re.findall(r"^# (wireguard_\w+)=", header, re.MULTILINE))
    told = {name for row in rows(CONFIG, "### rc.conf") for name in quoted(row[0])}

    assert len(variables) > 8
    assert {name for name in told if "NAME" not in name} == variables
    assert {name for name in variables if f"Va {name}" not in COMMANDS} == set()
    for key in settings.TUNNEL_KEYS:
        assert f"wireguard_NAME_{key}" in told
        assert f"wireguard_Ar interfaceVa _{key}" in COMMANDS.replace("Ns ", "")


def test_every_variable_of_the_environment_is_described() -> None:
    source = "".join(path.read_text() for path in (ROOT / "wgsvc").rglob("*.py"))
    used = set(re.findall(r"environ\.get\(\"(WGSVC_\w+|NO_COLOR)\"", source))
    for_hooks = set(re.findall(r"\b(WG\w*_\w+)=", text("wgsvc", "supervise", "hooks.py")))

    assert {"WGSVC_RUN_DIR", "NO_COLOR"} <= used
    assert "WGSVC_EVENT" in for_hooks
    assert {name for name in used if name not in COMMANDS} == set()
    assert {name for name in used | for_hooks if name not in CONFIG} == set()
    assert {name for name in for_hooks if name not in FILES} == set()


def test_states_and_metrics_are_described() -> None:
    from wgsvc.supervise.states import STATES

    snapshot = {"tunnels": [{"name": "wg0", "state": "up", "peers": []}]}
    metrics = set(re.findall(r"# HELP (\w+)", prometheus.render(snapshot)))

    for state in {*STATES, *prometheus.STATES, "degraded"}:
        assert f"`{state}`" in OPERATION
        assert re.search(rf"\b{state}\b", COMMANDS)
    assert metrics == {name for row in rows(OPERATION, "## Prometheus") for name in quoted(row[0])}


def test_the_architecture_places_every_part() -> None:
    package = ROOT / "wgsvc"
    parts = [path.name + "/" for path in package.iterdir() if (path / "__init__.py").exists()]
    parts += [path.name for path in package.glob("*.py") if not path.name.startswith("__")]
    supervise = ARCHITECTURE[ARCHITECTURE.index("### supervise/") :]
    files = [path.name for path in (package / "supervise").glob("[!_]*.py")]

    assert [part for part in parts if f"`{part}`" not in ARCHITECTURE] == []
    assert [name for name in files if f"`{name}`" not in supervise] == []


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))],
)
def test_files_that_are_named_exist(page: str) -> None:
    here = text(page)
    links = re.findall(r"\]\(([^)#:]+)\)", here)
    named = [
        word
        for word in quoted(here)
        if re.fullmatch(r"[\w./-]+\.py|(tests|scripts)/[\w./-]+", word)
    ]
    known = [str(path) for part in ("wgsvc", "tests", "benchmarks", "scripts", "bin")
             for path in (ROOT / part).rglob("*")]  # fmt: skip

    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    assert [word for word in named if not any(path.endswith(f"/{word}") for path in known)] == []


def test_every_difference_from_wg_quick_is_shown_by_a_test() -> None:
    source = text("tests", "linux", "test_parity_behaviour.py")
    shown = re.findall(r'^    "(.+)": \w+,$', source[source.index("\nROWS") :], re.MULTILINE)

    assert len(shown) > 10
    assert [row[0] for row in rows(CONFIG, "### What is done")] == shown


@pytest.mark.parametrize("page", ["wgsvc.8", "wgsvc.conf.5"])
def test_man_pages_are_well_formed(page: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(ROOT / "man" / page)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "")

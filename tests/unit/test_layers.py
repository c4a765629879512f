"""Imports point one way. Read from the source with `ast`, so that a lazy import counts too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "wgsvc"
BASICS = {"errors", "light", "lightjson", "values"}
ALLOWED = {
    "light": set(),
    "order": set(),
    "errors": {"light"},
    "lightjson": {"light"},
    "values": {"light"},
    "programs": {"errors", "light"},
    "loop": BASICS,
    "config": BASICS,
    "system": {*BASICS, "programs"},
    "uapi": {*BASICS, "loop"},
    "plan": {*BASICS, "config", "uapi"},  # of uapi the values alone: test below
    "report": {*BASICS, "config", "uapi"},
    "replaced": set(),
    "trusted": BASICS,
    "routetables": BASICS,
    "settings": {*BASICS, "files"},
    "files": {*BASICS, "config", "order", "routetables", "settings", "trusted"},
    "unread": {*BASICS, "config", "files", "settings"},
    "supervise": {
        *BASICS, "config", "files", "loop", "order", "plan", "report", "replaced", "settings",
        "programs", "system", "trusted", "uapi", "__version__",
    },
}  # fmt: skip
"""What a part may import. What is not named here (commands, cli, lab, doctor) stands above."""

ABOVE = {"commands", "cli", "lab", "doctor", "rcscript", "__main__"}
IMPURE = {
    "socket", "_socket", "subprocess", "time", "datetime", "select", "selectors", "signal",
    "threading", "os", "fcntl", "shutil", "tempfile", "pathlib", "random", "secrets",
}  # fmt: skip


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every module that a file imports anywhere, with its line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            if module == "wgsvc":
                for alias in node.names:
                    yield node.lineno, f"wgsvc.{alias.name}"
            else:
                yield node.lineno, module


def files(part: str) -> list[Path]:
    """Return the files of a part: a folder or one file."""
    one = PACKAGE / f"{part}.py"
    return [one] if one.exists() else sorted((PACKAGE / part).rglob("*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_is_below_it(part: str) -> None:
    found = files(part)
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {module}"
        for path in found
        for line, module in imports(path)
        if module.startswith("wgsvc.") and module.split(".")[1] not in {part, *ALLOWED[part]}
    ]

    assert found
    assert wrong == []


def test_every_part_has_its_place() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"}
    parts |= {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

    assert parts - {"__init__"} - ABOVE == set(ALLOWED)


@pytest.mark.parametrize("part", ["config", "plan", "report"])
def test_the_pure_parts_touch_nothing(part: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {module}"
        for path in files(part)
        for line, module in imports(path)
        if (module.split(".")[0] in IMPURE and part != "report")
        or module in ("socket", "subprocess", "wgsvc.uapi.transport", "wgsvc.loop")
    ]

    assert wrong == []


def test_only_system_knows_an_operating_system() -> None:
    """Nobody but `system` itself imports one of its implementations."""
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {module}"
        for path in PACKAGE.rglob("*.py")
        if PACKAGE / "system" not in path.parents
        for line, module in imports(path)
        if module.startswith(("wgsvc.system.linux", "wgsvc.system.freebsd"))
        and path.relative_to(PACKAGE).parts[0] not in ("lab", "doctor")
    ]

    assert wrong == []


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("def f():\n    from wgsvc.supervise import daemon\n    import socket, os\n")

    assert list(imports(path)) == [(2, "wgsvc.supervise"), (3, "socket"), (3, "os")]

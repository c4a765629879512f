"""Finding and reading files: who may have touched them, what they may be, and when."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wgsvc import trusted
from wgsvc.errors import ConfigError, NotPermittedError, WgsvcError
from wgsvc.files import available, load, read_trusted
from wgsvc.settings import Settings

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
OTHER = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
PEER = "oK56DE9Ue9zK76rAc8pBl6opph+1v36lm7cXXsQKrQM="
CONF = f"[Interface]\nPrivateKey = {KEY}\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to chown")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Return a configuration folder with wg0.conf in it."""
    folder = tmp_path / "wireguard"
    folder.mkdir(mode=0o755)
    write(folder / "wg0.conf", CONF)
    return folder


@pytest.fixture(name="settings")
def _settings(folder: Path) -> Settings:
    return Settings(config_dirs=(str(folder),))


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Make a file with a mode, whatever the umask."""
    path.write_text(text)
    path.chmod(mode)
    return path


def read(path: Path) -> bytes:
    """Read with room enough."""
    return read_trusted(str(path), limit_bytes=1 << 20)


# --- who could have changed it


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644, 0o700, 0o444])
def test_modes_that_let_nobody_else_write(folder: Path, mode: int) -> None:
    """Reading by others is not what this is about."""
    (folder / "wg0.conf").chmod(mode)

    assert read(folder / "wg0.conf") == CONF.encode()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664, 0o777])
def test_modes_that_let_others_write(folder: Path, mode: int) -> None:
    """The message names the file and the cure."""
    (folder / "wg0.conf").chmod(mode)

    with pytest.raises(NotPermittedError, match="can write to it") as caught:
        read(folder / "wg0.conf")
    assert caught.value.cure == f"chmod go-w {folder}/wg0.conf"


@pytest.mark.parametrize(
    ("mode", "trusted"),
    [(0o700, True), (0o755, True), (0o775, False), (0o757, False), (0o777, False), (0o1777, True)],
)
@pytest.mark.parametrize("which", ["folder", "parent"])
def test_modes_of_the_folders_on_the_way(
    folder: Path, which: str, mode: int, *, trusted: bool
) -> None:
    """Whoever can write to one of them can put another file in its place."""
    (folder if which == "folder" else folder.parent).chmod(mode)

    if trusted:
        assert read(folder / "wg0.conf") == CONF.encode()
    else:
        with pytest.raises(NotPermittedError, match=r"the folder .* can't be trusted"):
            read(folder / "wg0.conf")


@needs_root
@pytest.mark.parametrize("which", ["file", "folder", "parent"])
def test_owned_by_somebody_else(folder: Path, which: str) -> None:
    """An owner can always write."""
    path = {"file": folder / "wg0.conf", "folder": folder, "parent": folder.parent}[which]
    os.chown(path, 65533, 0)

    with pytest.raises(NotPermittedError, match="it belongs to user 65533"):
        read(folder / "wg0.conf")


@needs_root
def test_a_sticky_folder_of_somebody_else(folder: Path) -> None:
    """Its owner can move what is in it, sticky or not."""
    os.chown(folder, 65533, 0)
    folder.chmod(0o1777)

    with pytest.raises(NotPermittedError, match="it belongs to user 65533"):
        read(folder / "wg0.conf")


@needs_root
def test_anothers_file_in_a_sticky_folder(folder: Path) -> None:
    """As in /tmp: the folder is fine, the file is not."""
    folder.chmod(0o1777)
    os.chown(folder / "wg0.conf", 65533, 0)

    with pytest.raises(NotPermittedError, match=r"the file .* belongs to user 65533"):
        read(folder / "wg0.conf")


@pytest.mark.parametrize("name", ["wireguard", "wire guard", "it's", "$HOME `id`", "a\nb\\\x80ü"])
@pytest.mark.parametrize(
    "spoilt", ["file", "folder", "readable", "dropin", "key", "owner", "owner of the link"]
)
def test_a_cure_is_right_when_it_is_pasted(tmp_path: Path, name: str, spoilt: str) -> None:
    """Into a shell, whatever the folder is called."""
    if spoilt.startswith("owner") and os.geteuid() != 0:
        pytest.skip("needs root to chown")
    folder = tmp_path / name
    folder.mkdir(mode=0o755)
    conf = f"[Interface]\n# wgsvc: private-key-file = wg0.key\n[Peer]\nPublicKey = {PEER}\n"
    write(folder / "office.conf", f"{conf}PresharedKey = {OTHER}\nAllowedIPs = ::/0\n")
    write(folder / "wg0.key", KEY)
    (folder / "wg0.conf").symlink_to("office.conf")
    (folder / "wg0.conf.d").mkdir(mode=0o755)
    write(folder / "wg0.conf.d" / "1.conf", "")
    settings = Settings(config_dirs=(str(folder),))
    assert load("wg0", settings).diagnostics == ()
    if spoilt.startswith("owner"):
        folder.chmod(0o1777)
        link = spoilt == "owner of the link"
        os.chown(folder / ("wg0.conf" if link else "office.conf"), 65533, 0, follow_symlinks=False)
    else:
        where, mode = {
            "file": ("office.conf", 0o622), "folder": ("", 0o775), "readable": ("wg0.conf", 0o644),
            "dropin": ("wg0.conf.d/1.conf", 0o620), "key": ("wg0.key", 0o602),
        }[spoilt]  # fmt: skip
        (folder / where).chmod(mode)
    (found,) = load("wg0", settings).diagnostics

    shell = shutil.which("bash") or "sh"  # FreeBSD's sh knows $'...' too, Debian's doesn't
    subprocess.run([shell, "-c", found.cure], check=True, cwd="/")
    assert str(found).endswith(f"; {found.cure}")
    assert load("wg0", settings).diagnostics == ()


# --- links


def test_a_link_gives_its_own_name_to_the_interface(folder: Path, settings: Settings) -> None:
    """wg0.conf -> office.conf is the interface wg0, and the path is the real one."""
    (folder / "wg0.conf").rename(folder / "office.conf")
    (folder / "wg0.conf").symlink_to("office.conf")
    checked = load("wg0", settings)

    assert checked.tunnel is not None
    assert (checked.tunnel.name, checked.tunnel.path) == ("wg0", f"{folder}/office.conf")


def test_a_link_through_folders(folder: Path, tmp_path: Path) -> None:
    """Absolute, relative, with .. in it, and links to folders."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "again").symlink_to(folder)
    (tmp_path / "wg0.conf").symlink_to("deep/again/../deep/./again/wg0.conf")

    assert read(tmp_path / "wg0.conf") == CONF.encode()


def test_a_link_into_a_folder_that_others_can_write_to(folder: Path, tmp_path: Path) -> None:
    """The way to the target counts as well."""
    (tmp_path / "open").mkdir()
    write(tmp_path / "open" / "x.conf", CONF)
    (tmp_path / "open").chmod(0o777)
    (folder / "wg1.conf").symlink_to(tmp_path / "open" / "x.conf")

    with pytest.raises(NotPermittedError, match="open can't be trusted"):
        read(folder / "wg1.conf")


@needs_root
def test_anothers_link_in_a_sticky_folder(folder: Path) -> None:
    """He can point it elsewhere at any time."""
    folder.chmod(0o1777)
    (folder / "wg1.conf").symlink_to("wg0.conf")
    os.lchown(folder / "wg1.conf", 65533, 0)

    with pytest.raises(NotPermittedError, match=r"the link .* belongs to user 65533"):
        read(folder / "wg1.conf")


def test_a_link_to_itself(folder: Path) -> None:
    """Ends, and is said."""
    (folder / "wg1.conf").symlink_to("wg1.conf")

    with pytest.raises(ConfigError, match="symbolic links"):
        read(folder / "wg1.conf")


def test_a_link_put_there_after_the_way_was_walked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk resolves every link; one that is there at the opening came later."""
    (folder / "wg1.conf").symlink_to("wg0.conf")
    monkeypatch.setattr(trusted, "_walk", lambda path, _uids: path)

    with pytest.raises(ConfigError, match="links"):
        read(folder / "wg1.conf")


# --- what it may be


@pytest.fixture(name="strange")
def _strange(folder: Path) -> Iterator[Path]:
    """Return a folder with things in it that are no files."""
    os.mkfifo(folder / "fifo.conf", 0o600)
    (folder / "dir.conf").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)  # a UNIX socket's path is short
    listener.bind("sock.conf")
    os.chdir(here)
    (folder / "sock.conf").chmod(0o600)
    (folder / "dangling.conf").symlink_to("nowhere")
    yield folder
    listener.close()


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fifo.conf", "is not a regular file"),
        ("dir.conf", "is not a regular file"),
        ("sock.conf", "No such device or address|Operation not supported"),
        ("dangling.conf", "no such file"),
        ("nowhere.conf", "no such file"),
        ("wg0.conf/wg0.conf", "no such file"),
    ],
)
def test_things_that_are_no_file(strange: Path, name: str, said: str) -> None:
    """Each at once, with nobody at the other end of the FIFO."""
    with pytest.raises(WgsvcError, match=said):
        read(strange / name)


@needs_root
@pytest.mark.timeout(5)
def test_a_device_without_end(folder: Path) -> None:
    """A node of /dev/zero in the folder, and the way through a link."""
    os.mknod(folder / "zero.conf", 0o600 | 0o020000, os.makedev(1, 5))
    (folder / "link.conf").symlink_to("/dev/zero")

    for name in ("zero.conf", "link.conf"):
        with pytest.raises(WgsvcError, match=r"not a regular file|permission denied"):
            read(folder / name)


def test_size_is_bounded(folder: Path) -> None:
    """The limit itself is fine; one more is not."""
    write(folder / "big.conf", "x" * 100)

    assert len(read_trusted(f"{folder}/big.conf", limit_bytes=100)) == 100
    with pytest.raises(ConfigError, match="is larger than 99 bytes"):
        read_trusted(f"{folder}/big.conf", limit_bytes=99)


def test_a_path_with_a_nul_byte() -> None:
    """An error like any other."""
    with pytest.raises(ConfigError, match="NUL"):
        read_trusted("/tmp/a\0b", limit_bytes=1)  # noqa: S108  # is never opened


def test_swapped_while_it_is_read(folder: Path) -> None:
    """Renames all the time: each reading is one of the two files, whole."""
    first, second = CONF.encode(), (CONF * 2000).encode()
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for content in (second, first):
                (folder / "new").write_bytes(content)
                (folder / "new").chmod(0o600)
                (folder / "new").rename(folder / "wg0.conf")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        seen = {read(folder / "wg0.conf") for _ in range(300)}
    finally:
        done.set()
        swapper.join()
    assert seen <= {first, second}


def test_nothing_is_left_open(folder: Path) -> None:
    """Neither after success nor after each failure."""
    (folder / "dir.conf").mkdir()
    write(folder / "open.conf", CONF, 0o666)
    before = os.listdir("/dev/fd")
    read(folder / "wg0.conf")
    for name in ("dir.conf", "open.conf", "nowhere.conf"):
        with pytest.raises(WgsvcError):
            read(folder / name)

    assert os.listdir("/dev/fd") == before


# --- which file is meant


def test_by_name_and_by_path(folder: Path, settings: Settings) -> None:
    """Both are the same tunnel."""
    by_name = load("wg0", settings)

    assert by_name.diagnostics == ()
    assert by_name == load(f"{folder}/wg0.conf", Settings(config_dirs=()))


def test_a_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./wg0.conf`, as wg-quick has it."""
    monkeypatch.chdir(folder)

    assert load("./wg0.conf", Settings(config_dirs=())).tunnel is not None


def test_the_first_folder_wins_and_says_so(
    folder: Path, settings: Settings, tmp_path: Path
) -> None:
    """A file that is not read is worth a warning."""
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "wg0.conf", "MTU = x")
    checked = load("wg0", settings._replace(config_dirs=(str(folder), f"{tmp_path}/other")))

    assert checked.tunnel is not None
    assert [str(found) for found in checked.diagnostics] == [
        f"{tmp_path}/other/wg0.conf: warning: is not read: {folder}/wg0.conf comes first"
    ]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("wg1", "no such file: looked for {folder}/wg1.conf"),
        ("wg0.conf", "if the file wg0.conf is meant, say ./wg0.conf"),
        ("x" * 16, "at most 15 characters"),
        ("", "needs a name"),
        ("..", "can't be called"),
        ("{folder}/wg0", "is called INTERFACE.conf"),
        ("{folder}/.conf", "needs a name"),
        ("{folder}/a b.conf", "consists of letters"),
        ("{folder}/wg1.conf", "{folder}/wg1.conf: no such file"),
        ("{folder}/" + "x" * 300 + ".conf", "at most 15 characters"),
        ("./a\0/wg0.conf", "NUL"),
    ],
)
def test_nothing_of_that_name(folder: Path, settings: Settings, what: str, said: str) -> None:
    """A diagnostic of the file as a whole, never an exception."""
    checked = load(what.replace("{folder}", str(folder)), settings)

    assert checked.tunnel is None
    assert [found.line for found in checked.errors] == [0]
    assert said.replace("{folder}", str(folder)) in checked.errors[0].message


def test_available(folder: Path, settings: Settings, tmp_path: Path) -> None:
    """Names an interface can have, of all folders, once each."""
    for name in ("wg1.conf", "wg2.conf.bak", ".conf", "a b.conf", "wgsvc.toml", "x" * 16 + ".conf"):
        write(folder / name, "")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "office.conf", "")
    write(tmp_path / "other" / "wg0.conf", "")
    dirs = (str(folder), str(tmp_path / "other"), str(tmp_path / "not-there"))

    assert available(settings._replace(config_dirs=dirs)) == ["office", "wg0", "wg1"]


# --- what belongs to it


def test_dropins_in_the_order_of_their_names(folder: Path, settings: Settings) -> None:
    """Only *.conf, no hidden ones."""
    dropins = folder / "wg0.conf.d"
    dropins.mkdir(mode=0o755)
    write(dropins / "20.conf", f"[Peer]\nPublicKey = {PEER}\nAllowedIPs = 10.2.0.0/16\n")
    write(dropins / "10.conf", f"[Peer]\nPublicKey = {OTHER}\nAllowedIPs = 10.1.0.0/16\n")
    write(dropins / "10.conf~", "nonsense")
    write(dropins / ".hidden.conf", "nonsense")
    checked = load("wg0", settings)

    assert checked.diagnostics == ()
    assert checked.tunnel is not None
    assert [str(peer.allowed_ips[0]) for peer in checked.tunnel.peers] == [
        "10.1.0.0/16",
        "10.2.0.0/16",
    ]


def test_a_dropin_that_others_can_write_to(folder: Path, settings: Settings) -> None:
    """It could route everything to a stranger."""
    (folder / "wg0.conf.d").mkdir(mode=0o755)
    write(folder / "wg0.conf.d" / "a.conf", "", 0o666)
    checked = load("wg0", settings)

    assert checked.tunnel is None
    assert "a.conf can't be trusted: everybody" in checked.errors[0].message


def test_private_key_file(folder: Path, settings: Settings) -> None:
    """Beside the configuration; a change of the key is a change of the tunnel."""
    write(folder / "wg0.conf", "[Interface]\n# wgsvc: private-key-file = wg0.key\n")
    write(folder / "wg0.key", KEY + "\n")
    checked = load("wg0", settings)
    direct = load("wg0", settings).tunnel
    write(folder / "wg0.key", PEER + "\n")
    other = load("wg0", settings).tunnel

    assert checked.diagnostics == ()
    assert checked.tunnel is not None
    assert direct == checked.tunnel
    assert checked.tunnel.private_key is not None
    assert checked.tunnel.private_key.hex() == base64.b64decode(KEY).hex()
    assert other is not None
    assert other.digest != checked.tunnel.digest


def test_the_key_files_key_as_a_peers(folder: Path, settings: Settings) -> None:
    """The secret is about to be told to others, as if it stood in the file itself."""
    peer = f"[Peer]\nPublicKey = {KEY}\nAllowedIPs = ::/0\n"
    write(folder / "wg0.conf", f"[Interface]\n# wgsvc: private-key-file = wg0.key\n{peer}")
    write(folder / "wg0.key", KEY + "\n")
    checked = load("wg0", settings)

    assert checked.tunnel is None
    assert [(found.key, found.message[:36]) for found in checked.errors] == [
        ("PublicKey", "is this tunnel's own private key: th")
    ]


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0o600, "wg0.key: no such file"),
        (KEY[:-1], 0o600, "wg0.key: must have 44 characters of base64, has 43"),
        (KEY + KEY, 0o600, "must have 44 characters"),
        (KEY, 0o622, "can't be trusted"),
        ("x" * 5000, 0o600, "is larger than 4096 bytes"),
    ],
)
def test_private_key_file_that_is_no_use(
    folder: Path, settings: Settings, content: str | None, mode: int, said: str
) -> None:
    """An error of the file that names it; the key is not in it."""
    write(folder / "wg0.conf", "[Interface]\n# wgsvc: private-key-file = wg0.key\n")
    if content is not None:
        write(folder / "wg0.key", content, mode)
    checked = load("wg0", settings)

    assert checked.tunnel is None
    assert [found.key for found in checked.errors] == ["wgsvc: private-key-file"]
    assert said in checked.errors[0].message
    assert KEY[:10] not in str(checked.errors[0])


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        (CONF, 0o644, True),
        (CONF, 0o640, False),
        (CONF, 0o600, False),
        ("[Interface]\nprivate key=x", 0o644, True),  # not valid, and readable all the same
        (f"[Peer]\nPublicKey = {PEER}\n", 0o644, False),
    ],
)
def test_everybody_can_read_the_private_key(
    folder: Path, settings: Settings, text: str, mode: int, *, warned: bool
) -> None:
    """A warning, as wg-quick gives one."""
    write(folder / "wg0.conf", text, mode)
    found = [
        one for one in load("wg0", settings).diagnostics if "everybody can read" in one.message
    ]

    assert bool(found) == warned
    assert all((one.severity, one.line) == ("warning", 0) for one in found)


def test_reading_a_plain_file_imports_little(folder: Path) -> None:
    """Each of these costs milliseconds at every start (measured)."""
    write(folder / "wg0.conf", CONF + f"[Peer]\nPublicKey = {PEER}\nAllowedIPs = 10.0.0.0/8\n")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from wgsvc.files import load\nfrom wgsvc.settings import Settings\n"
        "assert load(sys.argv[2], Settings()).diagnostics == ()\n"
        "print(*sys.modules)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, root, f"{folder}/wg0.conf"],
        capture_output=True,
        text=True,
        check=True,
    )

    heavy = {"ipaddress", "socket", "hashlib", "base64", "difflib", "json", "pathlib", "logging"}
    heavy |= {"subprocess", "dataclasses", "inspect", "argparse", "selectors"}
    assert heavy.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"fib": "one"}, 'setting wg0.fib: "one" must be a number'),
        ({"routes": "10.0.0.0/8 x\t"}, 'wg0.routes: "10.0.0.0/8 x" must be auto, off, or prefixes'),
        ({"fib": KEY}, "setting wg0.fib: must be a number"),
        ({"fib": 1 << 32}, '"4294967296" must be a number'),
    ],
)
def test_a_setting_of_a_tunnel_that_is_wrong(
    settings: Settings, own: dict[str, object], said: str
) -> None:
    """Quoted as the values of files are."""
    checked = load("wg0", settings._replace(per_tunnel={"wg0": own}))

    assert checked.tunnel is None
    assert [said in str(found) for found in checked.errors] == [True]

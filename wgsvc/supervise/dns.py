"""DNS servers of a tunnel, through resolvconf(8)."""

from __future__ import annotations

import os

from wgsvc.errors import OSFailureError, TimeoutExpiredError, UnavailableError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.text import resolvconf_arguments
from wgsvc.supervise.context import log
from wgsvc.supervise.process import find_program, fixed_environment
from wgsvc.supervise.wireguard_go import describe_exit

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.plan.steps import SetDns
    from wgsvc.settings import Settings
    from wgsvc.supervise.context import Context


SETTINGS_FILES = ("/etc/resolvconf.conf", "/usr/local/etc/resolvconf.conf")
SETTINGS_MAX_BYTES = 1 << 16


def check() -> None:
    """
    Say before anything is touched that there is no resolvconf, or one that does nothing.

    `resolvconf=NO` in resolvconf.conf(5) makes it take servers, succeed, and tell nobody.

    Raises: UnavailableError.
    """
    find_program("resolvconf")
    for path in SETTINGS_FILES:
        if _switched_off(path):
            raise UnavailableError(
                f"resolvconf does nothing: {path} says resolvconf=NO",
                cure='take that line out, or set dns = "off" in wgsvc.toml',
            )


def _switched_off(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            lines = file.read(SETTINGS_MAX_BYTES).splitlines()
    except OSError:
        return False
    values = [line.strip()[11:] for line in lines if line.strip().startswith(b"resolvconf=")]
    return bool(values) and values[-1].partition(b"#")[0].strip(b" \t\"'").lower() not in (
        b"", b"yes", b"true", b"on", b"1"
    )  # fmt: skip


def wanted(settings: Settings, tunnel: Tunnel) -> bool:
    """
    Return whether a tunnel's DNS is to be handed over.

    Raises: UnavailableError if it has to be and can't.
    """
    if settings.dns == "off" or not (tunnel.dns_servers or tunnel.dns_search):
        return False
    try:
        check()
    except UnavailableError as error:
        if settings.dns == "required":
            raise
        log(f"{tunnel.name}: DNS is left out: {error.message}", error=True)
        return False
    return True


async def add(context: Context, step: SetDns) -> None:
    """
    Hand the servers and search domains over.

    Raises: UnavailableError, OSFailureError with resolvconf's exit, TimeoutExpiredError.
    """
    lines = [f"nameserver {server}\n" for server in step.servers]
    if step.search:
        lines.append(f"search {' '.join(step.search)}\n")
    try:
        await _resolvconf(context, resolvconf_arguments(step.name, step.mode), "".join(lines))
    except WgsvcError as error:
        if context.settings.dns == "required":
            raise
        log(f"{step.name}: DNS is left out: {error.message}", error=True)


async def remove(context: Context, name: str) -> None:
    """
    Take them back; not being there is success (`-f`).

    Raises: as `add`.
    """
    await _resolvconf(context, ["-f", "-d", name], "")


async def _resolvconf(context: Context, arguments: list[str], text: str) -> None:
    read_end, write_end = os.pipe()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        # A few lines: far less than a pipe holds, so this does not block.
        os.write(write_end, text.encode("ascii", "replace")[:4096])
        child = context.children.spawn(
            ["resolvconf", *arguments],
            role="resolvconf",
            env=fixed_environment(),
            stdio=(read_end, null, null),
        )
    finally:
        for fd in (read_end, write_end, null):
            os.close(fd)
    call = " ".join(["resolvconf", *arguments])
    if not await child.exited.wait(context.settings.step_timeout_s):
        child.signal(9)
        raise TimeoutExpiredError(f"{call} did not end in time")
    status = child.exited.value()
    if status != 0:
        raise OSFailureError(call, describe_exit(status), 5, cure=f"try by hand: {call} </dev/null")

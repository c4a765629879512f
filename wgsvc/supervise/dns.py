"""DNS servers of a tunnel, through resolvconf(8)."""

from __future__ import annotations

import contextlib

from wgsvc.errors import UnavailableError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.text import resolvconf_arguments, resolvconf_input
from wgsvc.programs import find_program
from wgsvc.supervise import program
from wgsvc.supervise.context import log

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.plan.steps import SetDns
    from wgsvc.settings import Settings
    from wgsvc.supervise.context import Context, Say


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
        if _required(settings, tunnel.dns_servers):
            raise
        log(f"{tunnel.name}: DNS is left out: {error.message}", error=True)
        return False
    return True


def _required(settings: Settings, servers: tuple[str, ...]) -> bool:
    """
    Whether a tunnel may not come up without its DNS.

    With search domains alone it always may: wg-quick does not even look at these, and
    systemd-resolved's resolvconf refuses them.
    """
    return settings.dns == "required" and bool(servers)


async def add(context: Context, step: SetDns, say: Say) -> None:
    """
    Hand the servers and search domains over.

    Raises: UnavailableError, ProgramFailedError with resolvconf's words, TimeoutExpiredError.
    """
    text = resolvconf_input(step)
    cure = f"to start without its servers: wgsvc --set dns=optional start {step.name}"
    try:
        if not text:
            raise WgsvcError("domains with ~ lead to the interface's servers, and it has none")
        await _resolvconf(context, resolvconf_arguments(step), text, cure)
    except WgsvcError as error:
        if _required(context.settings, step.servers):
            raise
        for tell in (say, log):
            tell(f"{step.name}: DNS is left out: {error.message}")
        if not step.servers:
            with contextlib.suppress(WgsvcError):  # those that the file had before a reload
                await remove(context, step.name)


async def remove(context: Context, name: str) -> None:
    """
    Take them back; not being there is success (`-f`).

    Raises: as `add`.
    """
    await _resolvconf(context, ["-f", "-d", name], "", f"try by hand: resolvconf -f -d {name}")


async def _resolvconf(context: Context, arguments: list[str], text: str, cure: str) -> None:
    argv = ["resolvconf", *arguments]
    # A cancel waits until it has ended: killed half-way, it leaves an entry that a -d, which
    # comes next, does not see yet.
    ran = await context.loop.finish(
        program.run(context, argv, text, limit_s=context.settings.step_timeout_s)
    )
    if ran.status != 0:
        raise program.failed(argv, ran, cure=cure)

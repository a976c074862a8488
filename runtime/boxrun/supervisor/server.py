"""The supervisor process: its parts put together, from the lock on the run directory to the last thing removed."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from contextlib import suppress

import msgspec

from boxrun.bus import serve_unix
from boxrun.container.cgroups import Cgroups, detect
from boxrun.container.cgroups.errors import CgroupError
from boxrun.network.service import NetworksService
from boxrun.supervisor.rundir import RunDirectory
from boxrun.supervisor.service import RuntimeService
from boxrun.supervisor.zygotes import ZygoteKeeper

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
"""How long calls that are being answered may take at the end."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a supervisor runs. ``log_file`` empty: standard error."""

    run_dir: str
    log_level: str = "info"
    log_file: str = ""


def serve(settings: Settings) -> None:
    """Be the supervisor of ``settings.run_dir`` until it is asked to end.

    Raises:
        RunDirectoryError: another supervisor has the directory.
        ZygoteError: the fork server doesn't start.
    """
    logging.basicConfig(
        level=settings.log_level.upper(),
        filename=settings.log_file or None,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    with RunDirectory(settings.run_dir) as run:
        _allow_many_descriptors()
        asyncio.run(_serve(run))


def _allow_many_descriptors() -> None:
    """Every container takes a few descriptors, so the soft limit has to be the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(run: RunDirectory) -> None:
    loop = asyncio.get_running_loop()
    cgroups = detect()
    zygotes = ZygoteKeeper()
    networks = NetworksService(run.path)
    service = RuntimeService(run, cgroups, zygotes, networks)
    terminated = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, terminated.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        await asyncio.gather(service.recover(), zygotes.ensure())
        async with serve_unix(run.bus, [service, networks], mode=0o600, drain=DRAIN_SECONDS):
            await _first(terminated, service.stopping)
            if service.stopping.is_set():
                await service.kill_all()
    finally:
        service.close()
        await networks.close(clear=service.stopping.is_set())
        await zygotes.close(shims=service.stopping.is_set())
        if service.stopping.is_set():
            await _clear(run, cgroups)
        cgroups.close()


async def _clear(run: RunDirectory, cgroups: Cgroups) -> None:
    """Leave nothing behind that isn't somebody else's."""
    for parent in run.cgroup_parents():
        try:
            # Shims that a dead zygote has left behind end by themselves, and nobody here is told when.
            async with asyncio.timeout(DRAIN_SECONDS):
                while not cgroups.dissolve(parent):  # noqa: ASYNC110 - there is no event to wait for
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("cgroup %s is still in use", parent)
        except CgroupError as error:
            log.warning("%s", error)
    run.clear()


async def _first(*events: asyncio.Event) -> None:
    """Wait for one of ``events``."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
            with suppress(asyncio.CancelledError):
                await wait

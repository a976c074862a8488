"""Daemons for as long as a test or some tests take, which must leave nothing behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.busybox import busybox_archive
from support.daemon import Daemon, wait_until
from support.leaks import address_leaks, leaks


def stop_and_check(daemon: Daemon) -> None:
    """Shut a daemon down; nothing of it may be left."""
    daemon.shutdown()
    wait_until(lambda: not leaks(daemon.name), f"nothing is left of {daemon.name}: {leaks(daemon.name)}", 10)
    wait_until(
        lambda: not address_leaks(daemon.subnets, daemon.table),
        f"nothing is left of the networks of {daemon.name}: {address_leaks(daemon.subnets, daemon.table)}",
        10,
    )
    daemon.slot.close()


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """``daemon``, started."""
    daemon.start()
    try:
        yield daemon
    finally:
        stop_and_check(daemon)


@contextmanager
def stocked(daemon: Daemon) -> Iterator[Daemon]:
    """``daemon``, started, with the image ``busybox`` loaded."""
    with running(daemon):
        daemon.cli("boxship", "load", stdin=busybox_archive())
        yield daemon


@contextmanager
def on_small_disk(mebibytes: int, below: str = "") -> Iterator[Daemon]:
    """A daemon with the image ``busybox`` whose data root, or the directory ``below`` it, is a tmpfs of so many MiB."""
    daemon = Daemon()
    disk = daemon.data_root / below
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", disk], check=True)
    try:
        daemon.start()
        daemon.cli("boxship", "load", stdin=busybox_archive())
        yield daemon
    finally:
        try:
            # Whatever it answers: its disk may be full.
            daemon.request("POST", "/system/shutdown")
            assert daemon.process is not None
            daemon.process.wait(60)
        finally:
            subprocess.run(["umount", disk], check=True)
        stop_and_check(daemon)


def used(path: Path) -> int:
    """Bytes in use on the file system at ``path``."""
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize

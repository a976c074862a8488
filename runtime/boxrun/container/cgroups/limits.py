"""A limit as one write to one cgroup file, and the writing of a list of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from msgspec import Struct

from boxrun.container.cgroups import tree
from boxrun.container.cgroups.errors import CgroupError

MEMORY_MISSING = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
SWAP_MISSING = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
SWAPPINESS_MISSING = (
    "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
)
RESERVATION_MISSING = (
    "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded."
)
OOM_KILL_DISABLE_MISSING = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
SHARES_MISSING = "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded."
QUOTA_MISSING = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
CPUSET_MISSING = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded."
REALTIME_MISSING = "Your kernel does not support CPU real-time scheduler"
PIDS_MISSING = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
WEIGHT_MISSING = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
WEIGHT_DEVICE_MISSING = (
    "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
)
THROTTLE_MISSING = (
    "Your kernel does not support {unit} Block I/O {direction} limit or the cgroup is not mounted. "
    "Block I/O {unit} {direction} limit discarded."
)


class Setting(Struct, frozen=True):
    """One value for a group.

    Attributes:
        controller: whose it is, in the hierarchy's own names.
        writes: the file and the text for it, or several such pairs where kernels differ: the first whose file exists counts.
        missing: what the user is told where the kernel has none of the files; empty for an error instead.
    """

    controller: str
    writes: tuple[tuple[str, str], ...]
    missing: str = ""


def setting(controller: str, file: str, value: object, missing: str = "") -> Setting:
    """A setting of one file, ``value`` being shown as text."""
    return Setting(controller, ((file, str(value)),), missing)


Place = tuple[int, str]
"""Where a group's files are: a directory's file descriptor, and what to put before the file's name there."""


def apply(settings: Sequence[Setting], places: Mapping[str, Place], name: str) -> list[str]:
    """Write the settings in order.

    One that the kernel calls invalid beside another's present value (a memory limit above the limit of memory and swap, a quota
    beside another period) is tried again after the others, so that both raising and lowering work.

    Args:
        settings: what to write.
        places: where each controller's files are.
        name: the group's path, for messages.

    Returns:
        Warnings about limits the kernel doesn't have.

    Raises:
        CgroupError: the kernel refused a value.
    """
    warnings: list[str] = []
    refused: list[Setting] = []
    for wanted in settings:
        try:
            warning = _write(wanted, places)
        except OSError as error:
            if error.errno != errno.EINVAL or len(settings) == 1:
                raise _refusal(wanted, name, error) from error
            refused.append(wanted)
        else:
            if warning and warning not in warnings:
                warnings.append(warning)
    for wanted in refused:
        try:
            _write(wanted, places)
        except OSError as error:
            raise _refusal(wanted, name, error) from error
    return warnings


@contextmanager
def all_or_none(settings: Sequence[Setting], places: Mapping[str, Place], name: str) -> Iterator[None]:
    """Give the files that ``settings`` are about their present values back where the context fails.

    Raises:
        CgroupError: a present value can't be read.
    """
    try:
        before = [found for wanted in settings if (found := _present(wanted, places)) is not None]
    except OSError as error:
        raise CgroupError(f"read limits of cgroup {name}: {error.strerror}") from error
    try:
        yield
    except BaseException:
        before.reverse()
        with suppress(CgroupError):
            apply(before, places, name)
        raise


def _present(wanted: Setting, places: Mapping[str, Place]) -> Setting | None:
    """What the file of a setting says now, as something that can be written to it; None where there is no such file."""
    place = places.get(wanted.controller)
    if place is None:
        return None
    directory, prefix = place
    for file, value in wanted.writes:
        try:
            text = tree.read(directory, prefix + file)
        except FileNotFoundError:
            continue
        return setting(wanted.controller, file, _restored(value, text))
    return None


def _restored(value: str, text: str) -> str:
    """What to write instead of ``value`` for a file to say ``text`` again; of a list, one device's line only."""
    device, _, rest = value.partition(" ")
    if ":" not in device and device != "default":
        return text.strip()
    line = next((line for line in text.splitlines() if line.partition(" ")[0] == device), "")
    if line:
        return line
    key, equals, _ = rest.partition("=")
    return f"{device} {key}=max" if equals else f"{device} 0"


def lacking(settings: Sequence[Setting], places: Mapping[str, Place]) -> list[str]:
    """The warnings that ``apply`` would return; nothing is written."""
    warnings: list[str] = []
    for wanted in settings:
        place = places.get(wanted.controller)
        there = place is not None and any(tree.exists(place[0], place[1] + file) for file, _ in wanted.writes)
        if wanted.missing and not there and wanted.missing not in warnings:
            warnings.append(wanted.missing)
    return warnings


def check_realtime(runtime: int, parent: int, name: str) -> None:
    """See whether the group ``parent`` has enough real-time budget for one below it, as its file alone can say.

    Raises:
        CgroupError: it hasn't, or the kernel has no such budgets.
    """
    try:
        budget = int(tree.read(parent, "cpu.rt_runtime_us"))
    except FileNotFoundError:
        raise CgroupError(REALTIME_MISSING) from None
    if 0 <= budget < runtime:
        raise CgroupError(
            f"CPU real-time runtime {runtime} is more than the {budget} µs of its parent cgroup {name} (cpu.rt_runtime_us)"
        )


def _write(wanted: Setting, places: Mapping[str, Place]) -> str:
    """Write one setting; returns the warning where there is nothing to write to."""
    place = places.get(wanted.controller)
    if place is not None:
        directory, prefix = place
        for file, value in wanted.writes:
            try:
                tree.write(directory, prefix + file, value)
            except FileNotFoundError:
                continue
            return ""
    if wanted.missing:
        return wanted.missing
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _refusal(wanted: Setting, name: str, error: OSError) -> CgroupError:
    file, value = wanted.writes[0]
    return CgroupError(f"set {file} of cgroup {name} to {value!r}: {error.strerror}")

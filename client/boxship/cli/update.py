"""``boxship update``."""

from __future__ import annotations

from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.container_flags import Decimal
from boxship.cli.flags import Absent, Integer, Options, Size, Text
from boxship.cli.lifecycle import for_each
from boxship.errors import CommandError
from boxship.http.target import quote


class UpdateOptions(Options):
    """The flags of ``update``."""

    blkio_weight = Integer(
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)", minimum=0, maximum=65535, kind="uint16"
    )
    cpu_period = Integer("Limit CPU CFS (Completely Fair Scheduler) period")
    cpu_quota = Integer("Limit CPU CFS (Completely Fair Scheduler) quota")
    cpu_rt_period = Integer("Limit the CPU real-time period in microseconds")
    cpu_rt_runtime = Integer("Limit the CPU real-time runtime in microseconds")
    cpu_shares = Integer("CPU shares (relative weight)", short="c")
    cpus = Decimal("Number of CPUs")
    cpuset_cpus = Text("CPUs in which to allow execution (0-3, 0,1)")
    cpuset_mems = Text("MEMs in which to allow execution (0-3, 0,1)")
    kernel_memory = Absent("Kernel memory limit", "the kernel no longer limits its memory by itself", kind="bytes")
    memory = Size("Memory limit", short="m")
    memory_reservation = Size("Memory soft limit")
    memory_swap = Size("Swap limit equal to memory plus swap: -1 to enable unlimited swap", unlimited=True)
    pids_limit = Integer("Tune container pids limit (set -1 for unlimited)")
    restart = Text("Restart policy to apply when a container exits")


def body(options: UpdateOptions) -> dict[str, Any]:
    """The body of ContainerUpdate; what isn't given stays as it is.

    Raises:
        CommandError: the restart policy can't be understood.
    """
    changes: dict[str, Any] = {
        "BlkioWeight": options.blkio_weight,
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpuRealtimePeriod": options.cpu_rt_period,
        "CpuRealtimeRuntime": options.cpu_rt_runtime,
        "CpuShares": options.cpu_shares,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Memory": options.memory,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": options.memory_swap,
        "NanoCpus": options.cpus,
    }
    changes = {name: value for name, value in changes.items() if value}
    if options.given("pids-limit"):
        changes["PidsLimit"] = options.pids_limit
    if options.restart:
        name, colon, count = options.restart.partition(":")
        if colon and not (count.isascii() and count.isdigit()):
            raise CommandError("invalid restart policy format: maximum retry count must be an integer")
        changes["RestartPolicy"] = {"Name": name, "MaximumRetryCount": int(count or 0)}
    return changes


def _run(context: Context, options: UpdateOptions, arguments: list[str]) -> int:
    if not options.values:
        raise CommandError("you must provide one or more flags when using this command")
    changes = body(options)
    warnings: list[str] = []

    def act(name: str) -> str:
        answer = context.api.call("POST", f"/containers/{quote(name)}/update", body=changes)
        warnings.extend((answer or {}).get("Warnings") or ())
        return name

    status = for_each(context, arguments, act)
    for warning in warnings:
        context.warn(warning)
    return status


UPDATE: Command[UpdateOptions] = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]", "Update configuration of one or more containers", UpdateOptions, _run, minimum=1
)

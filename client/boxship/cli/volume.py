"""``boxship volume``: create, ls, inspect, rm and prune."""

from __future__ import annotations

import sys
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP, FORMAT_ONE_HELP, check_filter, encode_filters
from boxship.cli.flags import Absent, Items, Options, Switch, Text
from boxship.errors import APIError, CommandError
from boxship.http.target import quote
from boxship.terminal.table import render
from boxship.units import human_size

TITLES = {
    "Availability": "AVAILABILITY",
    "Driver": "DRIVER",
    "Group": "GROUP",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Mountpoint": "MOUNTPOINT",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Size": "SIZE",
    "Status": "STATUS",
}
_CLUSTER = "it has no Swarm, whose volumes these are"


def _label(text: str) -> str:
    from boxship.errors import InvalidValue

    if not text.partition("=")[0]:
        raise InvalidValue(f"invalid label '{text}': empty name")
    return text


class CreateVolumeOptions(Options):
    """The flags of ``volume create``."""

    availability = Absent("Cluster Volume availability", _CLUSTER)
    driver = Text("Specify volume driver name", default="local", short="d", shown='"local"')
    group = Absent("Cluster Volume group", _CLUSTER)
    label = Items("Set metadata for a volume", check=_label)
    limit_bytes = Absent("Minimum size of the Cluster Volume in bytes", _CLUSTER, kind="bytes")
    name = Text("Specify volume name", hidden=True)
    opt = Items("Set driver specific options", short="o", kind="map")
    required_bytes = Absent("Maximum size of the Cluster Volume in bytes", _CLUSTER, kind="bytes")
    scope = Absent("Cluster Volume access scope", _CLUSTER)
    secret = Absent("Cluster Volume secrets", _CLUSTER, kind="map")
    sharing = Absent("Cluster Volume access sharing", _CLUSTER)
    topology_preferred = Absent("A topology that the Cluster Volume would be preferred in", _CLUSTER, kind="list")
    topology_required = Absent("A topology that the Cluster Volume must be accessible from", _CLUSTER, kind="list")
    type = Absent("Cluster Volume access type", _CLUSTER)


class ListVolumesOptions(Options):
    """The flags of ``volume ls``."""

    cluster = Absent("Display only cluster volumes, and use cluster volume list formatting", _CLUSTER, kind="")
    filter = Items('Provide filter values (e.g. "dangling=true")', short="f", check=check_filter, kind="filter")
    format = Text(FORMAT_HELP)
    quiet = Switch("Only display volume names", short="q")


class InspectVolumesOptions(Options):
    """The flags of ``volume inspect``."""

    format = Text(FORMAT_ONE_HELP, short="f")


class RemoveVolumesOptions(Options):
    """The flags of ``volume rm``."""

    force = Switch("Force the removal of one or more volumes", short="f")


class PruneVolumesOptions(Options):
    """The flags of ``volume prune``."""

    all = Switch("Remove all unused volumes, not just anonymous ones", short="a")
    filter = Items('Provide filter values (e.g. "label=<label>")', check=check_filter, kind="filter")
    force = Switch("Do not prompt for confirmation", short="f")


def _pairs(items: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _create(context: Context, options: CreateVolumeOptions, arguments: list[str]) -> int:
    if options.name and arguments:
        raise CommandError("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
    body = {
        "Name": options.name or (arguments[0] if arguments else ""),
        "Driver": options.driver,
        "DriverOpts": _pairs(options.opt),
        "Labels": _pairs(options.label),
    }
    context.print(context.api.call("POST", "/volumes/create", None, body)["Name"])
    return 0


def row(volume: dict[str, Any]) -> dict[str, Any]:
    """A volume's values by column.

    Args:
        volume: an item of VolumeList's answer.
    """
    labels: dict[str, str] = volume.get("Labels") or {}
    usage = volume.get("UsageData")
    return {
        "Availability": "N/A",
        "Driver": volume["Driver"],
        "Group": "N/A",
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Mountpoint": volume["Mountpoint"],
        "Name": volume["Name"],
        "Scope": volume["Scope"],
        "Size": human_size(usage["Size"]) if usage else "N/A",
        "Status": "N/A",
        "Label": lambda name: labels.get(name, ""),
    }


def _list(context: Context, options: ListVolumesOptions, _arguments: list[str]) -> int:
    answer = context.api.call("GET", "/volumes", {"filters": encode_filters(options.filter)})
    rows = [row(volume) for volume in answer.get("Volumes") or ()]
    if options.quiet and not options.format:
        context.print("".join(f"{row['Name']}\n" for row in rows), end="")
        return 0
    context.print(render(options.format, rows, TITLES, "{{.Driver}}\t{{.Name}}"), end="")
    return 0


def _inspect(context: Context, options: InspectVolumesOptions, arguments: list[str]) -> int:
    from boxship.cli.showing import show

    return show(context, options.format, arguments, lambda name: fetch(context, name))


def fetch(context: Context, name: str) -> Any:
    """A volume as the daemon describes it.

    Raises:
        NotFound: there is none of that name.
    """
    return context.api.call("GET", f"/volumes/{quote(name)}")


def _remove(context: Context, options: RemoveVolumesOptions, arguments: list[str]) -> int:
    failed = False
    for name in arguments:
        try:
            context.api.call("DELETE", f"/volumes/{quote(name)}", {"force": options.force or None})
            context.print(name)
        except APIError as error:
            failed = True
            context.warn(f"Error response from daemon: {error}")
    return int(failed)


def prune(context: Context, filters: tuple[str, ...], *, everything: bool) -> tuple[str, int]:
    """Remove unused volumes; what to print of it, and the bytes that became free.

    Args:
        context: the command's.
        filters: which ones.
        everything: those with names too.
    """
    chosen = (*filters, "all=true") if everything else filters
    answer = context.api.call("POST", "/volumes/prune", {"filters": encode_filters(chosen)})
    deleted = answer.get("VolumesDeleted") or []
    text = "Deleted Volumes:\n" + "".join(f"{name}\n" for name in deleted) if deleted else ""
    return text, int(answer.get("SpaceReclaimed") or 0)


def _prune(context: Context, options: PruneVolumesOptions, _arguments: list[str]) -> int:
    if options.all and any(item.partition("=")[0].strip() == "all" for item in options.filter):
        raise CommandError("conflicting options: cannot specify both --all and --filter all=1")
    what = (
        "all volumes not used by at least one container"
        if options.all
        else "anonymous local volumes not used by at least one container"
    )
    if not options.force:
        sys.stdout.write(f"WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    text, space = prune(context, options.filter, everything=options.all)
    if text:
        context.print(text)
    context.print(f"Total reclaimed space: {human_size(space, 4)}")
    return 0


CREATE: Command[CreateVolumeOptions] = Command("[OPTIONS] [VOLUME]", "Create a volume", CreateVolumeOptions, _create, maximum=1)
LIST: Command[ListVolumesOptions] = Command("[OPTIONS]", "List volumes", ListVolumesOptions, _list, maximum=0)
INSPECT: Command[InspectVolumesOptions] = Command(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    InspectVolumesOptions,
    _inspect,
    minimum=1,
)
REMOVE: Command[RemoveVolumesOptions] = Command(
    "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", RemoveVolumesOptions, _remove, minimum=1
)
PRUNE: Command[PruneVolumesOptions] = Command(
    "[OPTIONS]", "Remove unused local volumes", PruneVolumesOptions, _prune, maximum=0
)

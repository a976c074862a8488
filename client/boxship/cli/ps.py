"""``boxship ps``."""

from __future__ import annotations

import json
import time
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP, check_filter, encode_filters
from boxship.cli.flags import Integer, Items, Options, Switch, Text
from boxship.cli.ports import displayable
from boxship.terminal.table import ellipsis, render
from boxship.units import human_duration, human_size, local_time

TITLES = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Label": lambda name: name.rpartition(".")[2].replace("-", " ").replace("_", " "),
}
_COLUMNS = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"


# What ``--format raw`` stands for.
_RAW = """container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
"""


class PsOptions(Options):
    """The flags of ``ps``."""

    all = Switch("Show all containers (default shows just running)", short="a")
    filter = Items("Filter output based on conditions provided", short="f", check=check_filter, kind="filter")
    format = Text(FORMAT_HELP)
    last = Integer("Show n last created containers (includes all states)", short="n", default=-1, shown="-1")
    latest = Switch("Show the latest created container (includes all states)", short="l")
    no_trunc = Switch("Don't truncate output")
    quiet = Switch("Only display container IDs", short="q")
    size = Switch("Display total file sizes", short="s")


def row(container: dict[str, Any], *, truncate: bool, now: float) -> dict[str, Any]:
    """A container's values by column.

    Args:
        container: an item of ContainerList's answer.
        truncate: whether to shorten ids, commands, names and mounts.
        now: seconds since the epoch.
    """
    identifier: str = container["Id"]
    labels: dict[str, str] = container.get("Labels") or {}
    names = [name.removeprefix("/") for name in container.get("Names") or ()]
    if truncate:
        # A name with a slash is a legacy link's, of another container.
        names = [name for name in names if "/" not in name]
    command = container.get("Command", "")
    mounts = container.get("Mounts") or []
    sources = [mount.get("Name") or mount.get("Source", "") for mount in mounts]
    settings = container.get("NetworkSettings") or {}
    size = human_size(container.get("SizeRw", 0))
    if container.get("SizeRootFs", 0) > 0:
        size += f" (virtual {human_size(container['SizeRootFs'])})"
    return {
        "ID": identifier[:12] if truncate else identifier,
        "Names": ",".join(names),
        "Image": _image(container, truncate),
        "Command": json.dumps(ellipsis(command, 20) if truncate else command, ensure_ascii=False),
        "CreatedAt": local_time(container["Created"]),
        "RunningFor": f"{human_duration(now - container['Created'])} ago",
        "Ports": displayable(container.get("Ports") or []),
        "State": container.get("State", ""),
        "Status": container.get("Status", ""),
        "Size": size,
        "Labels": ",".join(f"{name}={value}" for name, value in labels.items()),
        "Mounts": ",".join(ellipsis(source, 15) if truncate else source for source in sources),
        "LocalVolumes": str(sum(1 for mount in mounts if mount.get("Driver") == "local")),
        "Networks": ",".join(sorted(settings.get("Networks") or {})),
        "Platform": None,
        "Label": lambda name: labels.get(name, ""),
    }


def _image(container: dict[str, Any], truncate: bool) -> str:
    image: str = container.get("Image", "")
    if not image:
        return "<no image>"
    if not truncate:
        return image
    identifier = container.get("ImageID", "")
    if image == identifier or image == identifier.removeprefix("sha256:"):
        return image.removeprefix("sha256:")[:12]
    name, at, _ = image.partition("@")
    return name if at else image


def _run(context: Context, options: PsOptions, _arguments: list[str]) -> int:
    template = options.format
    show_size = options.size or ".Size" in template
    limit = options.last if options.last > 0 else 1 if options.latest else None
    query = {
        "all": options.all or limit is not None or None,
        "limit": limit,
        "size": show_size or None,
        "filters": encode_filters(options.filter),
    }
    containers = context.api.call("GET", "/containers/json", query)
    truncate = not options.no_trunc
    if options.quiet and not template:
        context.print("".join((item["Id"][:12] if truncate else item["Id"]) + "\n" for item in containers), end="")
        return 0
    now = time.time()
    rows = [row(item, truncate=truncate, now=now) for item in containers]
    if template == "raw":
        template = "container_id: {{.ID}}" if options.quiet else _RAW + ("size: {{.Size}}\n" if options.size else "")
    columns = _COLUMNS + "\t{{.Size}}" if show_size else _COLUMNS
    context.print(render(template, rows, TITLES, columns), end="")
    return 0


PS: Command[PsOptions] = Command("[OPTIONS]", "List containers", PsOptions, _run, maximum=0)

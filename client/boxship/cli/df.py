"""``boxship system df``."""

from __future__ import annotations

import time
from typing import Any

from boxship.cli import images, ps, volume
from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP
from boxship.cli.flags import Options, Switch, Text
from boxship.terminal.table import render
from boxship.units import human_duration, human_size, local_time, parse_time

TITLES = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
CACHE_TITLES = {
    "ID": "CACHE ID",
    "Parent": "PARENT",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "InUse": "IN USE",
    "Shared": "SHARED",
    "Description": "DESCRIPTION",
}
_COLUMNS = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
_RAW = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
_IMAGE_COLUMNS = (
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"
)
_CONTAINER_COLUMNS = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"
_VOLUME_COLUMNS = "{{.Name}}\t{{.Links}}\t{{.Size}}"
_CACHE_COLUMNS = "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}"
_VERBOSE_RAW = (
    "{{range .Images}}type: Image\nrepository: {{.Repository}}\n"
    "{{if .Tag}}tag: {{.Tag}}\n{{end}}digest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n"
    "virtual_size: {{.Size}}\n\n{{end -}}\n"
    "{{range .Containers}}type: Container\ncontainer_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n"
    "created_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n"
    "ports: {{- pad .Ports 1 0}}\nsize: {{.Size}}\n\n{{end -}}\n"
    "{{range .Volumes}}type: Volume\nname: {{.Name}}\ndriver: {{.Driver}}\n\n{{end -}}\n"
    "{{range .BuildCache}}type: Build Cache\nbuild_cache_id: {{.ID}}\nparent_id: {{.Parent}}\n"
    "build_cache_type: {{.CacheType}}\ndescription: {{.Description}}\ncreated_at: {{.CreatedAt}}\n"
    "created_since: {{.CreatedSince}}\nlast_used_at: {{.LastUsedAt}}\nlast_used_since: {{.LastUsedSince}}\n"
    "usage_count: {{.UsageCount}}\nin_use: {{.InUse}}\nshared: {{.Shared}}\n\n{{end -}}"
)


class DfOptions(Options):
    """The flags of ``system df``."""

    format = Text(FORMAT_HELP)
    verbose = Switch("Show detailed information on space usage", short="v")


class Usage:
    """What a daemon's objects take of its disk.

    Args:
        answer: SystemDataUsage's answer.
    """

    def __init__(self, answer: dict[str, Any]) -> None:
        self.images: list[dict[str, Any]] = answer.get("Images") or []
        self.containers: list[dict[str, Any]] = answer.get("Containers") or []
        self.volumes: list[dict[str, Any]] = answer.get("Volumes") or []
        self.cache: list[dict[str, Any]] = sorted(answer.get("BuildCache") or [], key=_last_used)
        self.layers = int(answer.get("LayersSize") or 0)
        self.cache_size = sum(record.get("Size", 0) for record in self.cache if not record.get("Shared"))

    def summary(self) -> list[dict[str, Any]]:
        """A row for each kind of object."""
        return [self._images(), self._containers(), self._volumes(), self._cache()]

    def _images(self) -> dict[str, Any]:
        used = sum(
            image["Size"] - image["SharedSize"]
            for image in self.images
            if image.get("Containers") and image.get("Size", -1) != -1 and image.get("SharedSize", -1) != -1
        )
        active = sum(1 for image in self.images if image.get("Containers", 0) > 0)
        return _row("Images", len(self.images), active, self.layers, self.layers - used)

    def _containers(self) -> dict[str, Any]:
        sizes = [(c.get("SizeRw") or 0, c.get("State") in ("running", "paused", "restarting")) for c in self.containers]
        total = sum(size for size, _ in sizes)
        reclaimable = sum(size for size, active in sizes if not active)
        return _row("Containers", len(sizes), sum(active for _, active in sizes), total, reclaimable)

    def _volumes(self) -> dict[str, Any]:
        usages = [volume.get("UsageData") or {"RefCount": -1, "Size": -1} for volume in self.volumes]
        known = [usage for usage in usages if usage["Size"] != -1]
        total = sum(usage["Size"] for usage in known)
        reclaimable = sum(usage["Size"] for usage in known if usage["RefCount"] == 0)
        return _row("Local Volumes", len(usages), sum(usage["RefCount"] > 0 for usage in usages), total, reclaimable)

    def _cache(self) -> dict[str, Any]:
        in_use = sum(record.get("Size", 0) for record in self.cache if record.get("InUse") and not record.get("Shared"))
        active = sum(bool(record.get("InUse")) for record in self.cache)
        row = _row("Build Cache", len(self.cache), active, self.cache_size, self.cache_size - in_use)
        # Docker gives no share here.
        return row | {"Reclaimable": human_size(self.cache_size - in_use, 4)}

    def details(self, *, truncate: bool, now: float) -> dict[str, list[dict[str, Any]]]:
        """A row for each object, by kind.

        Args:
            truncate: whether to shorten ids.
            now: seconds since the epoch.
        """
        return {
            "Images": [
                images.rows_of(image, truncate=truncate, digests=False, now=now)[0] | {"Digest": ""} for image in self.images
            ],
            # What a container shares with its image is the image's.
            "Containers": [ps.row({**c, "SizeRootFs": 0}, truncate=truncate, now=now) for c in self.containers],
            "Volumes": [volume.row(one) for one in self.volumes],
            "BuildCache": [_cache_row(record, truncate=truncate, now=now) for record in self.cache],
        }


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> dict[str, Any]:
    share = f" ({reclaimable * 100 // size}%)" if size > 0 else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size, 4),
        "Reclaimable": human_size(reclaimable, 4) + share,
    }


def _last_used(record: dict[str, Any]) -> tuple[float, str]:
    used = record.get("LastUsedAt")
    return parse_time(used) if used else float("-inf"), str(record.get("ID", ""))


def _cache_row(record: dict[str, Any], *, truncate: bool, now: float) -> dict[str, Any]:
    def short(text: str) -> str:
        return text.removeprefix("sha256:")[:12] if truncate else text

    created, used = parse_time(record["CreatedAt"]), record.get("LastUsedAt")
    return {
        "ID": short(record["ID"]) + ("*" if record.get("InUse") else ""),
        "Parent": short(", ".join(record.get("Parents") or ())),
        "CacheType": record.get("Type", ""),
        "Description": record.get("Description", ""),
        "Size": human_size(record.get("Size", 0)),
        "CreatedAt": local_time(created),
        "CreatedSince": f"{human_duration(now - created)} ago",
        "LastUsedAt": local_time(parse_time(used)) if used else "",
        "LastUsedSince": f"{human_duration(now - parse_time(used))} ago" if used else "",
        "UsageCount": str(record.get("UsageCount", 0)),
        "InUse": str(bool(record.get("InUse"))).lower(),
        "Shared": str(bool(record.get("Shared"))).lower(),
    }


def _run(context: Context, options: DfOptions, _arguments: list[str]) -> int:
    usage = Usage(context.api.call("GET", "/system/df"))
    if not options.verbose:
        template = _RAW if options.format == "raw" else options.format
        context.print(render(template, usage.summary(), TITLES, _COLUMNS), end="")
        return 0
    is_table = options.format in ("", "table")
    details = usage.details(truncate=is_table, now=time.time())
    if is_table:
        context.print(_sections(details, usage.cache_size), end="")
    elif options.format == "json":
        from boxship.terminal.govalues import escaped_json

        sorted_rows = {kind: [dict(sorted(row.items())) for row in rows] for kind, rows in details.items()}
        context.print(escaped_json(sorted_rows), end="")
    else:
        from boxship.terminal.gotemplate import Template

        template = _VERBOSE_RAW if options.format == "raw" else options.format.replace("\\t", "\t").replace("\\n", "\n")
        context.print(Template(template).execute(details), end="")
    return 0


def _sections(details: dict[str, list[dict[str, Any]]], cache_size: int) -> str:
    return (
        f"Images space usage:\n\n{render('', details['Images'], images.TITLES, _IMAGE_COLUMNS)}"
        f"\nContainers space usage:\n\n{render('', details['Containers'], ps.TITLES, _CONTAINER_COLUMNS)}"
        f"\nLocal Volumes space usage:\n\n{render('', details['Volumes'], volume.TITLES, _VOLUME_COLUMNS)}"
        f"\nBuild cache usage: {human_size(cache_size, 4)}\n\n"
        f"{render('', details['BuildCache'], CACHE_TITLES, _CACHE_COLUMNS)}"
    )


DF: Command[DfOptions] = Command("[OPTIONS]", "Show disk usage", DfOptions, _run, maximum=0)

"""``boxship builder prune``."""

from __future__ import annotations

from boxship.cli.command import Command, Context
from boxship.cli.filters import check_filter, encode_filters
from boxship.cli.flags import Items, Options, Size, Switch
from boxship.cli.pruning import confirmed, report

_ALL = "WARNING! This will remove all build cache."
_DANGLING = "WARNING! This will remove all dangling build cache."


class PruneOptions(Options):
    """The flags of ``builder prune``."""

    all = Switch("Remove all unused build cache, not just dangling ones", short="a")
    filter = Items('Provide filter values (e.g. "until=24h")', check=check_filter, kind="filter")
    force = Switch("Do not prompt for confirmation", short="f")
    keep_storage = Size("Amount of disk space to keep for cache, as --reserved-space")
    max_used_space = Size("Maximum amount of disk space allowed to keep for cache")
    min_free_space = Size("Target amount of free disk space after pruning")
    reserved_space = Size("Amount of disk space always allowed to keep for cache")


def prune(
    context: Context, filters: tuple[str, ...], *, everything: bool, spaces: dict[str, int] | None = None
) -> tuple[str, int]:
    """Remove build cache; what went, in words, and the bytes that became free.

    Args:
        context: what the command works with.
        filters: which.
        everything: what is shared with images and of internal kinds too.
        spaces: the API's parameters on what may stay, in bytes.
    """
    query = {"all": everything or None, "filters": encode_filters(filters), **(spaces or {})}
    answer = context.api.call("POST", "/build/prune", query)
    deleted = answer.get("CachesDeleted") or []
    text = "Deleted build cache objects:\n" + "".join(f"{name}\n" for name in deleted) if deleted else ""
    return text, int(answer.get("SpaceReclaimed") or 0)


def _run(context: Context, options: PruneOptions, _arguments: list[str]) -> int:
    if not options.force and not confirmed(_ALL if options.all else _DANGLING):
        return 0
    spaces = {
        "reserved-space": options.reserved_space or options.keep_storage,
        "max-used-space": options.max_used_space,
        "min-free-space": options.min_free_space,
    }
    given = {name: size for name, size in spaces.items() if size}
    return report(context, [prune(context, options.filter, everything=options.all, spaces=given)])


PRUNE: Command[PruneOptions] = Command("[OPTIONS]", "Remove build cache", PruneOptions, _run, maximum=0)

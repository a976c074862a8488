"""``boxship container prune``, ``image prune`` and ``system prune``; volumes have theirs with their other commands."""

from __future__ import annotations

from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import check_filter, encode_filters
from boxship.cli.flags import Items, Options, Switch
from boxship.cli.pruning import confirmed, report
from boxship.errors import CommandError

_FILTER_HELP = 'Provide filter values (e.g. "until=<timestamp>")'
_FORCE_HELP = "Do not prompt for confirmation"


class PruneContainersOptions(Options):
    """The flags of ``container prune``."""

    filter = Items(_FILTER_HELP, check=check_filter, kind="filter")
    force = Switch(_FORCE_HELP, short="f")


class PruneImagesOptions(Options):
    """The flags of ``image prune``."""

    all = Switch("Remove all unused images, not just dangling ones", short="a")
    filter = Items(_FILTER_HELP, check=check_filter, kind="filter")
    force = Switch(_FORCE_HELP, short="f")


class PruneSystemOptions(Options):
    """The flags of ``system prune``."""

    all = Switch("Remove all unused images not just dangling ones", short="a")
    filter = Items('Provide filter values (e.g. "label=<key>=<value>")', check=check_filter, kind="filter")
    force = Switch(_FORCE_HELP, short="f")
    volumes = Switch("Prune anonymous volumes")


def _containers(context: Context, filters: tuple[str, ...]) -> tuple[str, int]:
    answer = context.api.call("POST", "/containers/prune", {"filters": encode_filters(filters)})
    deleted = answer.get("ContainersDeleted") or []
    text = "Deleted Containers:\n" + "".join(f"{name}\n" for name in deleted) if deleted else ""
    return text, int(answer.get("SpaceReclaimed") or 0)


def _images(context: Context, filters: tuple[str, ...], everything: bool) -> tuple[str, int]:
    chosen = (*filters, f"dangling={'false' if everything else 'true'}")
    answer = context.api.call("POST", "/images/prune", {"filters": encode_filters(chosen)})
    items: list[dict[str, Any]] = answer.get("ImagesDeleted") or []
    lines = [
        f"untagged: {item['Untagged']}\n" if item.get("Untagged") else f"deleted: {item.get('Deleted', '')}\n" for item in items
    ]
    return "Deleted Images:\n" + "".join(lines) if lines else "", int(answer.get("SpaceReclaimed") or 0)


def _run_containers(context: Context, options: PruneContainersOptions, _arguments: list[str]) -> int:
    if not options.force and not confirmed("WARNING! This will remove all stopped containers."):
        return 0
    return report(context, [_containers(context, options.filter)])


def _run_images(context: Context, options: PruneImagesOptions, _arguments: list[str]) -> int:
    what = "all images without at least one container associated to them" if options.all else "all dangling images"
    if not options.force and not confirmed(f"WARNING! This will remove {what}."):
        return 0
    return report(context, [_images(context, options.filter, options.all)])


def _run_system(context: Context, options: PruneSystemOptions, _arguments: list[str]) -> int:
    what = "all images without at least one container associated to them" if options.all else "all dangling images"
    if options.volumes and any(item.partition("=")[0] == "until" for item in options.filter):
        raise CommandError('ERROR: The "until" filter is not supported with "--volumes"')
    also = "  - all anonymous volumes not used by at least one container\n" if options.volumes else ""
    networks = "  - all networks not used by at least one container\n"
    cache = "  - all build cache\n" if options.all else "  - unused build cache\n"
    warning = f"WARNING! This will remove:\n  - all stopped containers\n{networks}{also}  - {what}\n{cache}"
    if not options.force and not confirmed(warning):
        return 0
    from boxship.cli.builder import prune as prune_cache
    from boxship.cli.network import prune as prune_networks

    results = [_containers(context, options.filter), (prune_networks(context, options.filter), 0)]
    if options.volumes:
        from boxship.cli.volume import prune

        results.append(prune(context, options.filter, everything=False))
    results.append(_images(context, options.filter, options.all))
    # What isn't labelled can't be chosen by its label, as with Docker.
    kinds = {item.partition("=")[0] for item in options.filter}
    if not kinds & {"label", "label!"}:
        results.append(prune_cache(context, options.filter, everything=options.all))
    return report(context, results)


PRUNE_CONTAINERS: Command[PruneContainersOptions] = Command(
    "[OPTIONS]", "Remove all stopped containers", PruneContainersOptions, _run_containers, maximum=0
)
PRUNE_IMAGES: Command[PruneImagesOptions] = Command(
    "[OPTIONS]", "Remove unused images", PruneImagesOptions, _run_images, maximum=0
)
PRUNE_SYSTEM: Command[PruneSystemOptions] = Command(
    "[OPTIONS]", "Remove unused data", PruneSystemOptions, _run_system, maximum=0
)

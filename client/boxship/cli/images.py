"""``boxship images``, ``rmi`` and ``tag``."""

from __future__ import annotations

import time
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP, check_filter, encode_filters
from boxship.cli.flags import Items, Options, Switch, Text
from boxship.cli.references import repository_tag, split
from boxship.errors import APIError, CommandError, NotFound
from boxship.http.target import quote
from boxship.terminal.table import render
from boxship.units import human_duration, human_size, local_time

TITLES = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
_NONE = "<none>"


class ImagesOptions(Options):
    """The flags of ``images``."""

    all = Switch("Show all images (default hides intermediate images)", short="a")
    digests = Switch("Show digests")
    filter = Items("Filter output based on conditions provided", short="f", check=check_filter, kind="filter")
    format = Text(FORMAT_HELP)
    no_trunc = Switch("Don't truncate output")
    quiet = Switch("Only show image IDs", short="q")
    tree = Switch("List multi-platform images as a tree (EXPERIMENTAL)")


def names_of(image: dict[str, Any], *, digests: bool) -> list[tuple[str, str, str]]:
    """An image's (repository, tag, digest), one for each line of the list."""
    tags: dict[str, list[str]] = {}
    for reference in image.get("RepoTags") or ():
        name, tag = split(reference)
        if name != _NONE:
            tags.setdefault(name, []).append(tag)
    known: dict[str, list[str]] = {}
    for reference in image.get("RepoDigests") or ():
        name, digest = split(reference)
        if name != _NONE:
            known.setdefault(name, []).append(digest)
    result: list[tuple[str, str, str]] = []
    for name, named in tags.items():
        if digests:
            result += [(name, tag, digest) for tag in named for digest in known.get(name, [_NONE])]
        else:
            result += [(name, tag, _NONE) for tag in named]
    for name, found in known.items():
        if name not in tags:
            result += [(name, _NONE, digest if digests else _NONE) for digest in (found if digests else found[:1])]
    return result or [(_NONE, _NONE, _NONE)]


def rows_of(image: dict[str, Any], *, truncate: bool, digests: bool, now: float) -> list[dict[str, Any]]:
    """An image's values by column, one set for each of its names.

    Args:
        image: an item of ImageList's answer.
        truncate: whether to shorten ids.
        digests: whether each digest has a line.
        now: seconds since the epoch.
    """
    identifier: str = image["Id"]
    common = {
        "ID": identifier.removeprefix("sha256:")[:12] if truncate else identifier,
        "CreatedSince": f"{human_duration(now - image['Created'])} ago" if image["Created"] > 0 else "N/A",
        "CreatedAt": local_time(image["Created"]),
        "Size": human_size(image["Size"]),
        "Containers": "N/A" if image.get("Containers", -1) == -1 else str(image["Containers"]),
        "VirtualSize": human_size(image["Size"], 4),
        "SharedSize": "N/A" if image.get("SharedSize", -1) == -1 else human_size(image["SharedSize"], 4),
        "UniqueSize": "N/A" if image.get("SharedSize", -1) == -1 else human_size(image["Size"] - image["SharedSize"], 4),
    }
    return [{**common, "Repository": n, "Tag": t, "Digest": d} for n, t, d in names_of(image, digests=digests)]


def _run_images(context: Context, options: ImagesOptions, arguments: list[str]) -> int:
    filters = options.filter
    if arguments:
        filters = (*filters, f"reference={arguments[0]}")
    query: dict[str, object] = {"all": options.all or None, "filters": encode_filters(filters)}
    if options.tree:
        return _tree(context, options, query)
    images = context.api.call("GET", "/images/json", query)
    truncate = not options.no_trunc
    digests = options.digests or ".Digest" in options.format
    now = time.time()
    rows = [row for image in images for row in rows_of(image, truncate=truncate, digests=digests, now=now)]
    if options.quiet and not options.format:
        context.print("".join(row["ID"] + "\n" for row in rows), end="")
        return 0
    if options.format == "raw":
        context.print(render(_raw(options), rows, TITLES, ""), end="")
        return 0
    columns = (
        "{{.Repository}}\t{{.Tag}}\t" + ("{{.Digest}}\t" if options.digests else "") + "{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    )
    context.print(render(options.format, rows, TITLES, columns), end="")
    return 0


def _tree(context: Context, options: ImagesOptions, query: dict[str, object]) -> int:
    given = (
        ("quiet", options.quiet),
        ("no-trunc", options.no_trunc),
        ("show-digest", options.digests),
        ("format", options.format),
    )
    for flag, value in given:
        if value:
            raise CommandError(f"--{flag} is not yet supported with --tree")
    from boxship.cli.image_tree import show_tree

    show_tree(context, query)
    return 0


def _raw(options: ImagesOptions) -> str:
    """The template that ``--format raw`` stands for."""
    if options.quiet:
        return "image_id: {{.ID}}"
    digest = "digest: {{.Digest}}\n" if options.digests else ""
    head = "repository: {{.Repository}}\ntag: {{.Tag}}\n"
    return head + digest + "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"


class RmiOptions(Options):
    """The flags of ``rmi``."""

    force = Switch("Force removal of the image", short="f")
    no_prune = Switch("Do not delete untagged parents")
    platform = Items(
        'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")', kind="strings"
    )


def _run_rmi(context: Context, options: RmiOptions, arguments: list[str]) -> int:
    platforms = None
    if options.platform:
        from boxship.cli.platforms import encode_all

        platforms = encode_all(context.api, options.platform, "1.50")
    query = {"force": options.force or None, "noprune": options.no_prune or None, "platforms": platforms}
    failed = False
    for image in arguments:
        try:
            for item in context.api.call("DELETE", f"/images/{quote(image, '/:@')}", query):
                context.print(f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item.get('Untagged', '')}")
        except APIError as error:
            # What isn't there needs no force to be gone.
            failed = failed or not (options.force and isinstance(error, NotFound))
            context.warn(f"Error response from daemon: {error}")
    return int(failed)


class TagOptions(Options):
    """``tag`` has no flags."""


def _run_tag(context: Context, _options: TagOptions, arguments: list[str]) -> int:
    name, tag = repository_tag(arguments[1])
    context.api.call("POST", f"/images/{quote(arguments[0], '/:@')}/tag", {"repo": name, "tag": tag or "latest"})
    return 0


IMAGES: Command[ImagesOptions] = Command("[OPTIONS] [REPOSITORY[:TAG]]", "List images", ImagesOptions, _run_images, maximum=1)
RMI: Command[RmiOptions] = Command("[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", RmiOptions, _run_rmi, minimum=1)
TAG: Command[TagOptions] = Command(
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    TagOptions,
    _run_tag,
    minimum=2,
    maximum=2,
)

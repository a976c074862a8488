"""``boxship pull`` and ``push``, and the pull that ``run`` and ``create`` begin with."""

from __future__ import annotations

import os

from boxship.cli.accounts import note, registry_header
from boxship.cli.command import Command, Context
from boxship.cli.flags import Only, Options, Switch, Text
from boxship.errors import CommandError
from boxship.http.target import quote
from boxship.references import Reference, parse
from boxship.terminal.progress import show

DEFAULT_PLATFORM = "DOCKER_DEFAULT_PLATFORM"
_NO_TRUST = "it has no content trust"


class PullOptions(Options):
    """The flags of ``pull``."""

    all_tags = Switch("Download all tagged images in the repository", short="a")
    disable_content_trust = Only("Skip image verification", True, _NO_TRUST)
    platform = Text("Set platform if server is multi-platform capable")
    quiet = Switch("Suppress verbose output", short="q")


def default_platform(given: str) -> str:
    """The platform asked for: the flag's, else that of the environment, else none."""
    return given or os.environ.get(DEFAULT_PLATFORM, "")


def pull(
    context: Context, reference: Reference, platform: str, *, all_tags: bool = False, quiet: bool = False, fd: int = 1
) -> None:
    """Have the daemon pull an image, and show how that goes.

    Args:
        context: what the command works with.
        reference: the image.
        platform: the platform, empty for the daemon's own.
        all_tags: whether to pull every tag of the repository.
        quiet: whether to show nothing but failures.
        fd: where to show the progress.

    Raises:
        APIError: the daemon refused.
        StreamError: the pull failed.
    """
    query = {
        "fromImage": reference.familiar_name,
        "tag": None if all_tags else reference.digest or reference.tag,
        "platform": platform.lower() or None,
    }
    headers = [registry_header(context, reference.domain)]
    with context.api.open("POST", "/images/create", query, headers=headers) as response:
        show(response.lines(), quiet=quiet, fd=fd)


def _reference(context: Context, text: str, *, all_tags: bool, quiet: bool) -> Reference:
    reference = parse(text)
    if all_tags:
        if not reference.names_nothing:
            raise CommandError("tag can't be used with --all-tags/-a")
        return reference
    if reference.names_nothing and not quiet:
        context.print(f"Using default tag: {reference.tagged().tag}")
    return reference.tagged()


def _pull(context: Context, options: PullOptions, arguments: list[str]) -> int:
    reference = _reference(context, arguments[0], all_tags=options.all_tags, quiet=options.quiet)
    context.flush()
    pull(context, reference, default_platform(options.platform), all_tags=options.all_tags, quiet=options.quiet)
    context.print(str(reference))
    return 0


class PushOptions(Options):
    """The flags of ``push``."""

    all_tags = Switch("Push all tags of an image to the repository", short="a")
    disable_content_trust = Only("Skip image signing", True, _NO_TRUST)
    platform = Text(
        'Push a platform-specific manifest as a single-platform image to the registry. Formatted as "os[/arch[/variant]]" '
        '(e.g., "linux/amd64")'
    )
    quiet = Switch("Suppress verbose output", short="q")


_ONE_PLATFORM = """Using --platform pushes only the specified platform manifest of a multi-platform image index.
Other components, like attestations, will not be included.
To push the complete multi-platform image, remove the --platform flag.
"""
_MISSING = """You're trying to push a manifest list/index which references multiple platform specific manifests,
but not all of them are available locally or available to the remote repository.

Make sure you have all the referenced content and try again.

You can also push only a single platform specific manifest directly by specifying the platform with the --platform flag."""


def _push(context: Context, options: PushOptions, arguments: list[str]) -> int:
    platform = None
    if options.platform:
        from boxship.cli.platforms import encode

        platform = encode(context.api, options.platform, "1.46")
        note(_ONE_PLATFORM, 1)
    reference = _reference(context, arguments[0], all_tags=options.all_tags, quiet=options.quiet)
    if reference.digest:
        raise CommandError("cannot push a digest reference")
    context.flush()
    query = {"tag": reference.tag or None, "platform": platform}
    headers = [registry_header(context, reference.domain)]
    notes: list[str] = []
    path = f"/images/{quote(reference.familiar_name, '/:')}/push"
    try:
        with context.api.open("POST", path, query, headers=headers) as response:
            show(response.lines(), quiet=options.quiet, fd=1, aux=lambda value: notes.extend(_notes(value)))
    finally:
        for text in notes:
            note(text, 1)
    if options.quiet:
        context.print(str(reference))
    return 0


def _notes(aux: object) -> list[str]:
    """What the user should know of the pushed index, out of the daemon's remarks.

    Source: moby's api/types/auxprogress.
    """
    if not isinstance(aux, dict):
        return []
    if aux.get("manifestPushedInsteadOfIndex"):
        index, pushed = (str((aux.get(key) or {}).get("digest", "")) for key in ("originalIndex", "selectedManifest"))
        text = "Not all multiplatform-content is present and only the available single-platform image was pushed"
        return [f"{text}\n{index} -> {pushed}"]
    return [_MISSING] if aux.get("contentMissing") else []


PULL: Command[PullOptions] = Command(
    "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", PullOptions, _pull, minimum=1, maximum=1
)
PUSH: Command[PushOptions] = Command(
    "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", PushOptions, _push, minimum=1, maximum=1
)

"""``boxship create``, and creating a container for ``run``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from boxship.cli.command import Command, Context
from boxship.cli.container_config import create_body
from boxship.cli.container_flags import CreateOptions
from boxship.errors import BadRequest, CommandError, InvalidValue, NotFound, UsageError

if TYPE_CHECKING:
    from boxship.references import Reference

_FAILURE = 125


def _nothing() -> None:
    """There is nothing to do meanwhile."""


def create(
    context: Context,
    options: CreateOptions,
    arguments: list[str],
    *,
    detached: bool = False,
    meanwhile: Callable[[], object] = _nothing,
) -> str:
    """Create a container, pulling its image where that is asked for; its id.

    Args:
        context: what the command works with.
        options: the flags.
        arguments: the image, then the command.
        detached: whether nothing is attached (``run -d``).
        meanwhile: called while the daemon creates the container.

    Raises:
        CommandError: flags contradict each other (status 125).
        APIError: the daemon refused.
    """
    if options.pull not in ("always", "missing", "never"):
        said = f'boxship: invalid pull option: \'{options.pull}\': must be one of "always", "missing" or "never"'
        raise UsageError(f"{said}\n\nRun '{context.path} --help' for more information", _FAILURE)
    image = arguments[0]
    platform = _platform(options)
    body = create_body(options, image, arguments[1:], detached=detached)
    if options.tty:
        from boxship.terminal.raw import window_size

        body["HostConfig"]["ConsoleSize"] = list(window_size(1))
    if options.cidfile and os.path.exists(options.cidfile):
        message = f"container ID file found, make sure the other container isn't running or delete {options.cidfile}"
        raise CommandError(message, _FAILURE)
    if options.pull == "always":
        from boxship.references import parse

        _pull(context, options, parse(image))
    answer = _create(context, options, image, platform, body, meanwhile=meanwhile)
    for warning in answer.get("Warnings") or ():
        context.warn(f"WARNING: {warning}")
    container: str = answer["Id"]
    if options.cidfile:
        _write_id(options.cidfile, container)
    return container


def _create(
    context: Context,
    options: CreateOptions,
    image: str,
    platform: str | None,
    body: dict[str, Any],
    *,
    meanwhile: Callable[[], object],
) -> dict[str, Any]:
    query = {"name": options.name or None, "platform": platform}
    try:
        answer: dict[str, Any] = context.api.call_meanwhile("POST", "/containers/create", query, body, meanwhile=meanwhile)
    except BadRequest as error:
        if "invalid reference format" in str(error):
            from boxship.references import parse

            # Says what is wrong with the name, as Docker's client does before it asks.
            parse(image)
        raise
    except NotFound as error:
        reference = _to_be_pulled(options, image, error)
        if reference is None:
            raise
        if not options.quiet:
            context.warn(f"Unable to find image '{reference.familiar}' locally")
        _pull(context, options, reference)
        answer = context.api.call("POST", "/containers/create", query, body)
    return answer


def _platform(options: CreateOptions) -> str | None:
    """The platform asked for, in its usual form; None for the daemon's own."""
    text = options.platform or os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    if not text:
        return None
    from boxship.cli.platforms import parse

    try:
        platform = parse(text)
    except CommandError as error:
        raise InvalidValue(f"error parsing specified platform: {error}") from error
    return "/".join(platform[key] for key in ("os", "architecture", "variant") if key in platform)


def _to_be_pulled(options: CreateOptions, image: str, error: NotFound) -> Reference | None:
    """The image's reference where a pull could find what the daemon doesn't have."""
    message = str(error).lower()
    if options.pull != "missing" or not ("no such image" in message or "does not match the specified platform" in message):
        return None
    bare = image.removeprefix("sha256:")
    if len(bare) == 64 and all(digit in "0123456789abcdef" for digit in bare):
        # An id names no repository.
        return None
    from boxship.references import parse

    return parse(image).tagged()


def _pull(context: Context, options: CreateOptions, reference: Reference) -> None:
    from boxship.cli.pull import default_platform, pull

    pull(context, reference.tagged(), default_platform(options.platform), quiet=options.quiet, fd=2)


def _write_id(path: str, container: str) -> None:
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(container)
    except OSError as error:
        raise CommandError(f"failed to create the container ID file: {path}: {error.strerror}", _FAILURE) from error


def _run(context: Context, options: CreateOptions, arguments: list[str]) -> int:
    context.print(create(context, options, arguments))
    return 0


CREATE: Command[CreateOptions] = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", CreateOptions, _run, minimum=1, interspersed=False
)

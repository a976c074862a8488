"""``boxship create``, and creating a container for ``run``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.container_config import create_body
from boxship.cli.container_flags import CreateOptions
from boxship.errors import CommandError, NotFound

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
        raise CommandError(f'invalid pull option: \'{options.pull}\': must be one of "always", "missing" or "never"', _FAILURE)
    image = arguments[0]
    body = create_body(options, image, arguments[1:], detached=detached)
    if options.tty:
        from boxship.terminal.raw import window_size

        body["HostConfig"]["ConsoleSize"] = list(window_size(1))
    if options.cidfile and os.path.exists(options.cidfile):
        message = f"container ID file found, make sure the other container isn't running or delete {options.cidfile}"
        raise CommandError(message, _FAILURE)
    if options.pull == "always":
        _pull(context, options, image)
    answer = _create(context, options, image, body, meanwhile)
    for warning in answer.get("Warnings") or ():
        context.warn(f"WARNING: {warning}")
    container: str = answer["Id"]
    if options.cidfile:
        _write_id(options.cidfile, container)
    return container


def _create(
    context: Context, options: CreateOptions, image: str, body: dict[str, Any], meanwhile: Callable[[], object]
) -> dict[str, Any]:
    query = {"name": options.name or None, "platform": options.platform or None}
    try:
        answer: dict[str, Any] = context.api.call_meanwhile("POST", "/containers/create", query, body, meanwhile=meanwhile)
    except NotFound as error:
        if options.pull != "missing" or "no such image" not in str(error).lower():
            raise
        if not options.quiet:
            from boxship.cli.references import familiar

            context.warn(f"Unable to find image '{familiar(image)}' locally")
        _pull(context, options, image)
        answer = context.api.call("POST", "/containers/create", query, body)
    return answer


def _pull(context: Context, options: CreateOptions, image: str) -> None:
    from boxship.cli.references import split
    from boxship.terminal.progress import show

    name, tag = split(image)
    query = {"fromImage": name, "tag": tag or "latest", "platform": options.platform or None}
    with context.api.open("POST", "/images/create", query) as response:
        show(response.lines(), quiet=options.quiet, fd=2)


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

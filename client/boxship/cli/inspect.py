"""``boxship inspect``, ``container inspect`` and ``image inspect``."""

from __future__ import annotations

from functools import partial
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_ONE_HELP
from boxship.cli.flags import Options, Switch, Text
from boxship.cli.showing import show
from boxship.errors import BadRequest, CommandError, NotFound
from boxship.http.target import quote

_LATER = ("config", "node", "plugin", "secret", "service", "task")


class InspectOptions(Options):
    """The flags of ``inspect``."""

    format = Text(FORMAT_ONE_HELP, short="f")
    size = Switch("Display total file sizes if the type is container", short="s")
    type = Text("Only inspect objects of the given type")


class InspectContainerOptions(Options):
    """The flags of ``container inspect``."""

    format = Text(FORMAT_ONE_HELP, short="f")
    size = Switch("Display total file sizes", short="s")


class InspectImageOptions(Options):
    """The flags of ``image inspect``."""

    format = Text(FORMAT_ONE_HELP, short="f")
    platform = Text("Inspect a specific platform of the multi-platform image, as os[/arch[/variant]]")


def _container(context: Context, name: str, size: bool) -> Any:
    return context.api.call("GET", f"/containers/{quote(name)}/json", {"size": size or None})


def _image(context: Context, name: str, platform: str = "") -> Any:
    query = None
    if platform:
        from boxship.cli.platforms import encode

        query = {"platform": encode(context.api, platform, "1.49")}
    return context.api.call("GET", f"/images/{quote(name, '/:@')}/json", query)


def _network(context: Context, name: str) -> Any:
    from boxship.cli.network import fetch

    return fetch(context, name)


def _volume(context: Context, name: str) -> Any:
    from boxship.cli.volume import fetch

    return fetch(context, name)


def _run(context: Context, options: InspectOptions, arguments: list[str]) -> int:
    def fetch(name: str) -> Any:
        if options.type == "container":
            return _container(context, name, options.size)
        if options.type == "image":
            return _image(context, name)
        if options.type == "volume":
            return _volume(context, name)
        if options.type == "network":
            return _network(context, name)
        for look in (partial(_container, size=options.size), _image, _network, _volume):
            try:
                return look(context, name)
            except NotFound:
                continue
            except BadRequest as error:
                # A volume may be called what no image can.
                if "invalid reference format" not in str(error):
                    raise
        raise CommandError(f"Error: No such object: {name}")

    if options.type in _LATER:
        raise CommandError(f"--type {options.type} is not available in Boxship 0.1")
    if options.type not in ("", "container", "image", "network", "volume"):
        raise CommandError(f'unknown type: "{options.type}": must be one of "container", "image", "network", "volume"')
    return show(context, options.format, arguments, fetch)


def _run_container(context: Context, options: InspectContainerOptions, arguments: list[str]) -> int:
    return show(context, options.format, arguments, lambda name: _container(context, name, options.size))


def _run_image(context: Context, options: InspectImageOptions, arguments: list[str]) -> int:
    return show(context, options.format, arguments, lambda name: _image(context, name, options.platform))


INSPECT: Command[InspectOptions] = Command(
    "[OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on Docker objects", InspectOptions, _run, minimum=1
)
INSPECT_CONTAINER: Command[InspectContainerOptions] = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    InspectContainerOptions,
    _run_container,
    minimum=1,
)
INSPECT_IMAGE: Command[InspectImageOptions] = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    InspectImageOptions,
    _run_image,
    minimum=1,
)

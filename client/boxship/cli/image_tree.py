"""``boxship images --tree``: images with the platforms they are there for, in Docker's layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from boxship.cli.command import Context
from boxship.errors import CommandError
from boxship.terminal.raw import window_size
from boxship.units import human_size

_WARNING = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
_SPACING = "   "
_NARROWEST_NAME = 12
_NARROWEST = 20
_USUAL_WIDTH = 80
_HEADER, _NAME, _PLAIN, _FAINT, _LIGHT = "\x1b[39m\x1b[1m", "\x1b[34m\x1b[1m", "\x1b[39m", "\x1b[2m", "\x1b[93m"
_CHIP = "\x1b[38;5;0m\x1b[48;5;14m"
_OFF = "\x1b[0m"
_UNTAGGED = "<untagged>"
# Docker counts the bytes of the branch before a platform, of which three stand for one character twice.
_BRANCH_WIDTH = len("└─ ".encode())


class Line(NamedTuple):
    """What is said of an image or one of its platforms.

    Attributes:
        identifier: the digest.
        disk: what it takes of the disk.
        content: what its blobs take of that.
        used: whether containers use it.
    """

    identifier: str
    disk: str
    content: str
    used: bool


class Platform(NamedTuple):
    """A platform of an image: its name, whether it is here, and what is said of it."""

    name: str
    available: bool
    line: Line


class Image(NamedTuple):
    """An image: its names, what is said of it, and its platforms."""

    names: list[str]
    line: Line
    platforms: list[Platform]


class _Column(NamedTuple):
    title: str
    width: int
    right: bool
    value: Callable[[Line], str]


_COLUMNS = (
    _Column("ID", 12, False, lambda line: line.identifier.removeprefix("sha256:")[:12]),
    _Column("DISK USAGE", 10, True, lambda line: line.disk),
    _Column("CONTENT SIZE", 12, True, lambda line: line.content),
    _Column("EXTRA", 5, False, lambda line: "U" if line.used else ""),
)


def images_of(answer: list[dict[str, Any]], *, untagged: bool) -> list[Image]:
    """The images of ImageList's answer, newest first; those without a name where ``untagged``."""
    newest = sorted(answer, key=lambda item: -int(item["Created"]))
    return [_image(item) for item in newest if untagged or item.get("RepoTags")]


def _image(item: dict[str, Any]) -> Image:
    content = 0
    platforms = []
    for manifest in item.get("Manifests") or ():
        if manifest.get("Kind") != "image":
            continue
        data, size = manifest.get("ImageData") or {}, manifest.get("Size") or {}
        content += size.get("Content", 0)
        line = Line(
            manifest["ID"],
            human_size(size.get("Total", 0)),
            human_size(size.get("Content", 0)),
            bool(data.get("Containers")),
        )
        platform = data.get("Platform") or {}
        parts = (platform.get(key) for key in ("os", "architecture", "variant"))
        platforms.append(Platform("/".join(part for part in parts if part), bool(manifest.get("Available")), line))
    used = item.get("Containers", -1) > 0 or any(platform.line.used for platform in platforms)
    line = Line(item["Id"], human_size(item["Size"]), human_size(content), used)
    return Image(list(item.get("RepoTags") or ()), line, platforms)


class Tree:
    """The layout for a terminal or a file.

    Args:
        width: how wide it may be.
        coloured: whether a terminal shows it.
    """

    def __init__(self, width: int, *, coloured: bool) -> None:
        self._terminal = width
        self._width = max(width, _NARROWEST)
        self._coloured = coloured

    def render(self, images: list[Image]) -> str:
        """The whole list."""
        names = self._width
        columns: list[_Column] = []
        for column in _COLUMNS:
            needed = column.width + len(_SPACING)
            if names - needed < _NARROWEST_NAME:
                break
            names -= needed
            columns.append(column)
        names = min(names, _widest(images))
        head = [_padded("IMAGE", names, _HEADER), *(_padded(c.title, c.width, _HEADER, right=c.right) for c in columns)]
        parts = [self._legend(), _SPACING.join(head) + "\n"]
        parts += [self._image(image, names, columns) + "\n" for image in images]
        return "".join(parts)

    def _legend(self) -> str:
        warning = f"{_LIGHT}{_WARNING}{_OFF}" if self._coloured else _WARNING
        if self._coloured:
            shown = f"\x1b[1m\x1b[106m\x1b[30mi{_OFF}{_OFF} \x1b[96mInfo → {_OFF}{_OFF} {_CHIP} U {_OFF} In Use "
            size = len("i Info →   U  In Use ")
        else:
            shown = "Info ->  U In Use "
            size = len(shown)
        return f"{warning}\n{' ' * max(0, self._width - size)}{shown}\n\n"

    def _image(self, image: Image, width: int, columns: list[_Column]) -> str:
        *first, last = image.names or [_UNTAGGED]
        name = (_NAME if image.names else _FAINT) if self._coloured else ""
        plain = _PLAIN if self._coloured else ""
        # A name with nothing beside it has the whole line.
        lines = [_padded(text, min(len(text), self._terminal), name) + "\n" for text in first]
        lines.append(_padded(last, width, name) + self._details(image.line, columns, plain))
        for index, platform in enumerate(image.platforms):
            branch = "└─ " if index == len(image.platforms) - 1 else "├─ "
            colour = plain if platform.available or not self._coloured else _PLAIN + _FAINT
            lines.append(_padded(branch + platform.name, width, colour) + self._details(platform.line, columns, colour))
        return "".join(lines)

    def _details(self, line: Line, columns: list[_Column], colour: str) -> str:
        parts = []
        for column in columns:
            if column.title != "EXTRA":
                parts.append(_padded(column.value(line), column.width, colour, right=column.right))
            elif line.used and self._coloured:
                parts.append(f"{_CHIP} U {_OFF}".ljust(len(f"{_CHIP}{_OFF}") + column.width))
            else:
                parts.append(column.value(line).ljust(column.width))
        return "".join(_SPACING + part for part in parts) + "\n"


def _padded(text: str, width: int, colour: str, *, right: bool = False) -> str:
    """A cell of ``width`` characters, cut or filled up with blanks that have no colour."""
    if len(text) > width:
        text = text[: width - 1] + "…"
    blanks = " " * max(0, width - len(text))
    shown = f"{colour}{text}{_OFF}" if colour else text
    return blanks + shown if right else shown + blanks


def _widest(images: list[Image]) -> int:
    names = [len(name) for image in images for name in image.names or [_UNTAGGED]]
    return max([len("IMAGE"), *names, *(len(p.name) + _BRANCH_WIDTH for image in images for p in image.platforms)])


def show_tree(context: Context, query: dict[str, object]) -> None:
    """Print the list.

    Args:
        context: where to print.
        query: ImageList's parameters.

    Raises:
        CommandError: the daemon doesn't tell platforms.
    """
    if (version := context.api.negotiate()) < (1, 47):
        known = ".".join(map(str, version))
        raise CommandError(f'"--tree" requires API version 1.47, but the daemon API version is {known}')
    answer = context.api.call("GET", "/images/json", {**query, "manifests": True})
    coloured = os.isatty(1)
    width = window_size(1)[1] or _USUAL_WIDTH
    context.print(Tree(width, coloured=coloured).render(images_of(answer, untagged=bool(query.get("all")))), end="")

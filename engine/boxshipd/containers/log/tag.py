"""The ``tag`` log option: a Go template on what a container is. Source: moby daemon/logger (loginfo.go, log_tag.go)."""

from __future__ import annotations

from dataclasses import dataclass

from boxship.errors import TemplateError

from boxshipd.errors import InvalidParameter

DEFAULT = "{{.ID}}"
"""What the drivers that send use where nothing is said."""


@dataclass(frozen=True)
class LogInfo:
    """What a tag's template may name, and the drivers that send say of a container.

    Attributes:
        container_id, image_id: 64 hex digits, the image's with its algorithm before them.
        name: without its slash.
        image: as it was asked for.
        command: the program and its arguments.
        created: RFC 3339.
        attributes: the labels and variables that other options ask for.
    """

    container_id: str
    name: str
    image_id: str
    image: str
    command: tuple[str, ...]
    created: str
    attributes: dict[str, str]


def render_tag(template: str, info: LogInfo) -> str:
    """Fill ``template`` in.

    Raises:
        InvalidParameter: it is no template, or names what there isn't.
    """
    if "{{" not in template:
        return template
    # Only here: few containers have one.
    from boxship.terminal.gotemplate import Template

    try:
        return Template(template).execute(_fields(info))
    except TemplateError as error:
        raise InvalidParameter(f"log opt tag {template!r}: {error}") from error


def _fields(info: LogInfo) -> dict[str, object]:
    return {
        "ID": info.container_id[:12],
        "FullID": info.container_id,
        "ContainerID": info.container_id,
        "Name": info.name,
        "ContainerName": f"/{info.name}",
        "ImageID": info.image_id[:12],
        "ImageFullID": info.image_id,
        "ContainerImageID": info.image_id,
        "ImageName": info.image,
        "ContainerImageName": info.image,
        "Command": " ".join(info.command),
        "ContainerEntrypoint": info.command[0] if info.command else "",
        "ContainerArgs": list(info.command[1:]),
        "ContainerCreated": info.created,
        # What filters in syslog configurations that were written for Docker look for.
        "DaemonName": "docker",
        "ExtraAttributes": lambda *_: info.attributes,
    }

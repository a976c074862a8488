"""``--build-context``: names that stand for an image, a repository, a URL or files of the client's, instead of what they say.

A name may have a platform, ``base::linux/arm64``, and is then for that one only.

Source: BuildKit frontend/dockerui/context.go (NamedContext), namedcontext.go, whose messages these are.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import ContextSource, GitSource, HttpSource
from boxshipd.builder.plan import BaseImage, Resolver
from boxshipd.builder.planner.git_references import parse_git
from boxshipd.builder.planner.ignored import Ignored
from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.images.model import Platform
from boxshipd.images.platform import describe

_RESERVED = ("scratch", "context")
_IGNORE_FILE = ".dockerignore"


class Files(Struct, frozen=True):
    """A context that is no image. ``name`` is how the step that loads it is shown."""

    source: ContextSource | GitSource | HttpSource
    name: str


def find_context(contexts: Mapping[str, str], name: str, platform: Platform) -> str | None:
    """What stands for a name; None where it stands for itself.

    Args:
        contexts: ``--build-context``, by name.
        name: a stage's name, or an image's.
        platform: the one wanted.
    """
    if not contexts or name.lower() in _RESERVED:
        return None
    short = _short(name)
    normalized = {_key(key): value for key, value in contexts.items()}
    return normalized.get(f"{short}::{describe(platform)}", normalized.get(short))


async def load_context(name: str, value: str, platform: Platform | None, resolver: Resolver) -> BaseImage | Files | None:
    """What a named context is; None for one that is empty.

    Raises:
        DockerfileError: it can't be understood.
        InvalidParameter: the image's name can't be one.
        NotFound: there is no such image.
    """
    kind, colon, rest = value.partition(":")
    if not colon:
        raise DockerfileError(f"invalid context specifier {value} for {name}")
    shown = f"[context {name}]"
    if kind == "docker-image":
        image = rest.removeprefix("//")
        return None if image == "scratch" else await resolver.image(image, platform)
    if kind == "oci-layout":
        return await resolver.layout(rest.removeprefix("//"), platform)
    if kind in ("input", "local"):
        return Files(await _client_files(rest, resolver), f"{shown} load from client")
    if repository := parse_git(value):
        return Files(repository.source, f"{shown} {value}")
    if kind in ("http", "https"):
        return Files(HttpSource(url=value, filename="context", unpack=True), f"{shown} {value}")
    raise DockerfileError(f"unsupported context source {kind} for {name}")


async def _client_files(name: str, resolver: Resolver) -> ContextSource:
    """Files of the client's, without those that their own ignore file names."""
    source = ContextSource(name=name)
    text = await resolver.read(source, _IGNORE_FILE)
    return ContextSource(name=name, exclude=Ignored(text).patterns) if text else source


def _key(key: str) -> str:
    name, separator, platform = key.partition("::")
    return f"{_short(name)}{separator}{platform}"


def _short(name: str) -> str:
    """A name as users write it, without ``:latest``; what can't be an image's is as it is, in lower case."""
    try:
        return reference.parse(name).familiar.removesuffix(":latest")
    except InvalidParameter:
        return name.lower()

"""Build arguments that speak to the builder, not to the Dockerfile.

| argument | |
|---|---|
| ``BUILDKIT_CACHE_MOUNT_NS`` | caches of RUN --mount=type=cache of one name are others for each namespace |
| ``BUILDKIT_CONTEXT_KEEP_GIT_DIR`` | a repository as the build context keeps its ``.git`` |
| ``BUILDKIT_DOCKERFILE_CHECK`` | takes the place of ``# check=`` |
| ``BUILDKIT_MULTI_PLATFORM`` | steps are named as if there were several platforms |
| ``BUILDKIT_SANDBOX_HOSTNAME`` | the commands' host name |
| ``BUILDKIT_SYNTAX`` | another front end: refused, unless it is the Dockerfile's |
| ``BUILDKIT_INLINE_CACHE``, ``BUILDKIT_BUILD_NAME``, ``BUILDKIT_SBOM_SCAN_*`` | for exporters and clients |

Source: Dockerfile reference, "BuildKit built-in build args"; BuildKit frontend/dockerui/config.go.
"""

from __future__ import annotations

from collections.abc import Mapping

from boxship.booleans import parse_boolean
from msgspec import Struct

from boxshipd.builder.planner.arguments import EPOCH
from boxshipd.errors import InvalidParameter

KNOWN = frozenset(
    (
        EPOCH,
        "BUILDKIT_BUILD_NAME",
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "BUILDKIT_DOCKERFILE_CHECK",
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_MULTI_PLATFORM",
        "BUILDKIT_SANDBOX_HOSTNAME",
        "BUILDKIT_SBOM_SCAN_CONTEXT",
        "BUILDKIT_SBOM_SCAN_STAGE",
        "BUILDKIT_SYNTAX",
    )
)
"""Those that are never said not to be consumed."""

_OURS = ("dockerfile.v0", "docker/dockerfile", "docker.io/docker/dockerfile", "docker/dockerfile-upstream")


class BuilderArgs(Struct, frozen=True, kw_only=True):
    """What they say. ``check`` is None where they don't."""

    cache_namespace: str = ""
    keep_git_dir: bool = False
    check: str | None = None
    multi_platform: bool = False
    hostname: str = ""


def builder_args(build_args: Mapping[str, str | None]) -> BuilderArgs:
    """Read them.

    Raises:
        InvalidParameter: one has a value that it can't have, or asks for another front end.
    """
    syntax = build_args.get("BUILDKIT_SYNTAX") or ""
    if syntax and not is_dockerfile(syntax):
        raise InvalidParameter(f"BUILDKIT_SYNTAX={syntax}: no other front end than Dockerfile's is there")
    return BuilderArgs(
        cache_namespace=build_args.get("BUILDKIT_CACHE_MOUNT_NS") or "",
        keep_git_dir=_switch(build_args, "BUILDKIT_CONTEXT_KEEP_GIT_DIR"),
        check=build_args.get("BUILDKIT_DOCKERFILE_CHECK"),
        multi_platform=_switch(build_args, "BUILDKIT_MULTI_PLATFORM"),
        hostname=build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or "",
    )


def is_dockerfile(syntax: str) -> bool:
    """Whether a ``# syntax=`` means a Dockerfile in the language that is built in."""
    return syntax.partition("@")[0].partition(":")[0] in _OURS


def _switch(build_args: Mapping[str, str | None], name: str) -> bool:
    value = build_args.get(name) or "false"
    said = parse_boolean(value)
    if said is None:
        raise InvalidParameter(f"{name} must be true or false, not {value!r}")
    return said

"""Variables that are there before the first stage: the platforms, and the ARGs before the first FROM.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (buildMetaArgs), platform.go (defaultArgs); Dockerfile
reference, "Automatic platform ARGs in the global scope", "Predefined ARGs".
"""

from __future__ import annotations

from collections.abc import Mapping

from boxshipd.builder.plan import PlanOptions
from boxshipd.images.model import Platform
from boxshipd.images.platform import describe

EPOCH = "SOURCE_DATE_EPOCH"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
UNSET_IN_COMMANDS = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))
"""ARGs that speak to the builder and are no variables for commands."""


def platform_arguments(build: Platform, target: Platform, stage: str) -> dict[str, str]:
    """The predefined variables.

    Args:
        build: the builder's platform.
        target: the one built for.
        stage: the target stage's name, empty where it has none.
    """
    found: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        found[f"{prefix}PLATFORM"] = describe(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}OSVERSION"] = platform.os_version
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    found["TARGETSTAGE"] = stage or "default"
    return found


def overridden(variables: Mapping[str, str], build_args: Mapping[str, str | None]) -> dict[str, str]:
    """Variables with what ``--build-arg`` says of those of them that it names; one that it takes away isn't there."""
    found = {name: build_args.get(name, value) for name, value in variables.items()}
    return {name: value for name, value in found.items() if value is not None}


def build_arguments(options: PlanOptions) -> dict[str, str | None]:
    """``--build-arg``, where the time of the build is one of them."""
    found = dict(options.build_args)
    if options.epoch is not None:
        found.setdefault(EPOCH, str(options.epoch))
    return found


def proxy_variables(build_args: Mapping[str, str | None]) -> tuple[str, ...]:
    """The proxies for commands, in both cases, as programs look for either."""
    given = {name.upper(): value for name, value in sorted(build_args.items()) if value and name.upper() in _PROXIES}
    return tuple(f"{name}={given[proxy]}" for proxy in _PROXIES if proxy in given for name in (proxy, proxy.lower()))


def is_proxy(name: str) -> bool:
    """Whether it is one of the proxies' variables."""
    return name.upper() in _PROXIES

"""What steps are called while they are carried out: ``[build 2/5] RUN make``.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (prefixCommand, formatTargetPlatform, uppercaseCmd).
"""

from __future__ import annotations

from collections.abc import Mapping

from boxshipd.builder.planner.stages import Stage
from boxshipd.errors import InvalidParameter
from boxshipd.images.model import Platform
from boxshipd.images.platform import describe, parse


def numbered(stage: Stage, platform: Platform | None, env: Mapping[str, str]) -> str:
    """What a step's name begins with: its stage, and the next number of it.

    Args:
        stage: the stage.
        platform: the stage's, where it is to be shown.
        env: the variables, which may say that the stage makes things for another platform.
    """
    if not stage.total:
        return ""
    stage.count += 1
    words = [] if platform is None else [describe(platform) + _target(platform, env)]
    words += [stage.shown] if stage.shown else []
    words.append(f"{stage.count:>{len(str(stage.total))}}/{stage.total}")
    return f"[{' '.join(words)}] "


def upper_keyword(text: str) -> str:
    """An instruction with its keyword in upper case."""
    keyword, blank, rest = text.partition(" ")
    return keyword.upper() + blank + rest


def _target(base: Platform, env: Mapping[str, str]) -> str:
    """``->arm64`` where the variables say that things are made for another platform."""
    target = _platform_of(env)
    if target is None:
        return ""
    system, architecture = target.os or base.os, target.architecture or base.architecture
    if system != base.os:
        return "->" + describe(Platform(architecture, system, target.variant))
    if architecture != base.architecture:
        return "->" + "/".join(part for part in (architecture, target.variant) if part)
    return ""


def _platform_of(env: Mapping[str, str]) -> Platform | None:
    if text := env.get("TARGETPLATFORM"):
        try:
            return parse(text)
        except InvalidParameter:
            pass
    if not any(name in env for name in ("TARGETOS", "TARGETARCH", "TARGETVARIANT")):
        return None
    return Platform(env.get("TARGETARCH", ""), env.get("TARGETOS", ""), env.get("TARGETVARIANT", ""))

"""What the cache removes by itself: the ``builder`` section of the daemon's configuration.

Source: moby daemon/config/builder.go, builder/builder-next/worker/gc.go.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters

_RESERVED = 2_000_000_000
_MAX_USED_PERCENT = 80
_MIN_FREE_PERCENT = 20
_LEAST_TEMPORARY = 512_000_000
# How much of what is kept may be what can be made again most easily: e * pi * phi percent, since no number is better.
_TEMPORARY_PERCENT = math.e * math.pi * (1 + math.sqrt(5)) / 2
_TEMPORARY_KINDS = ("source.local", "exec.cachemount", "source.git.checkout")


class GCRule(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One rule. Sizes as ``20GB``, in powers of 1024; ``keep_storage`` is the old name of ``reserved_space``.

    ``filter``: ``name=value`` each, of the names that ``POST /build/prune`` takes.
    """

    all: bool = False
    filter: tuple[str, ...] = ()
    reserved_space: str = ""
    keep_storage: str = ""
    max_used_space: str = ""
    min_free_space: str = ""


class GCSettings(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """When the cache removes what by itself. Without a ``policy`` it has dockerd's, with these sizes in it."""

    enabled: bool = True
    policy: tuple[GCRule, ...] | None = None
    default_reserved_space: str = ""
    default_keep_storage: str = ""
    default_max_used_space: str = ""
    default_min_free_space: str = ""


class BuilderSettings(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """The ``builder`` section of daemon.json."""

    gc: GCSettings = GCSettings()


def rules(settings: GCSettings, size: Callable[[str], int], directory: str) -> list[PruneOptions]:
    """The rules, in order.

    Args:
        settings: the configuration.
        size: reads a size.
        directory: where the cache is; defaults depend on how large the disk is.

    Raises:
        InvalidParameter: a filter can't be.
    """
    if not settings.enabled:
        return []
    if settings.policy is not None:
        return [_rule(rule, size) for rule in settings.policy]
    return _defaults(settings, size, directory)


def _rule(rule: GCRule, size: Callable[[str], int]) -> PruneOptions:
    fields: dict[str, list[str]] = {}
    for text in rule.filter:
        name, _, value = text.partition("=")
        fields.setdefault(name.strip().lower(), []).append(value.strip())
    options = PruneOptions(
        everything=rule.all,
        reserved_space=_size(size, rule.reserved_space or rule.keep_storage),
        max_used_space=_size(size, rule.max_used_space),
        min_free_space=_size(size, rule.min_free_space),
        filters=Filters(fields),
    )
    options.check()
    return options


def _defaults(settings: GCSettings, size: Callable[[str], int], directory: str) -> list[PruneOptions]:
    """dockerd's: first what is easily made again and old, then what is older, then whatever is too much."""
    status = os.statvfs(directory)
    total = status.f_blocks * status.f_frsize
    reserved = _size(size, settings.default_reserved_space or settings.default_keep_storage) or _RESERVED
    bounded = PruneOptions(
        reserved_space=reserved,
        max_used_space=_size(size, settings.default_max_used_space) or total * _MAX_USED_PERCENT // 100,
        min_free_space=_size(size, settings.default_min_free_space) or total * _MIN_FREE_PERCENT // 100,
    )
    temporary = max(round(reserved / 100 * _TEMPORARY_PERCENT), _LEAST_TEMPORARY)
    return [
        # A rule for each kind, as a filter takes one value only.
        *(
            PruneOptions(filters=Filters({"until": ["48h"], "type": [kind]}), max_used_space=temporary)
            for kind in _TEMPORARY_KINDS
        ),
        replace(bounded, filters=Filters({"until": ["1440h"]})),
        bounded,
        replace(bounded, everything=True),
    ]


def _size(size: Callable[[str], int], text: str) -> int:
    return size(text) if text else 0


def check(settings: BuilderSettings, size: Callable[[str], int]) -> None:
    """Refuse settings that can't be, before anything is done by them.

    Raises:
        InvalidParameter: a size or a filter can't be understood.
    """
    gc = settings.gc
    for rule in gc.policy or ():
        _rule(rule, size)
    for text in (gc.default_reserved_space, gc.default_keep_storage, gc.default_max_used_space, gc.default_min_free_space):
        if text and size(text) < 0:
            raise InvalidParameter(f"builder: invalid size: {text}")

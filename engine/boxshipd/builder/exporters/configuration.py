"""An image's configuration, with its history, of what was planned and what came of it.

Source: BuildKit exporter/containerimage/writer.go (patchImageConfig, normalizeLayersAndHistory).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import UNSET
from msgspec.structs import replace

from boxshipd.builder.cache.document import Solved, inline
from boxshipd.builder.plan import PlannedImage
from boxshipd.builder.results import Snapshot
from boxshipd.images.digest import chain_ids
from boxshipd.images.model import History, ImageConfig, RootFS
from boxshipd.images.record import Layer

_COMMENT = "boxship.exporter.image"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image of one platform, as far as the solver has to do with it.

    Attributes:
        planned: what was planned.
        snapshot: its file system.
        outputs: the file system after each of the planned steps, None after one that only changed the configuration.
        solved: vertices that its configuration is to tell builds of, as far as its layers are theirs.
    """

    planned: PlannedImage
    snapshot: Snapshot
    outputs: tuple[Snapshot | None, ...]
    solved: tuple[Solved, ...] = ()

    @property
    def base_layers(self) -> int:
        """How many of its layers are its base image's."""
        base = self.planned.base
        return min(len(base.config.rootfs.diff_ids), len(self.snapshot.layers)) if base is not None else 0


def configuration(built: BuiltImage, layers: Sequence[Layer], made: Callable[[Layer], float]) -> ImageConfig:
    """The configuration.

    A rebuild that finds everything in the cache gives the same one: times are the layers', not the build's.

    Args:
        built: the image.
        layers: its layers as they are in the end; as many as ``built.snapshot`` has, but for what was put into one.
        made: when a layer was made, in seconds since the epoch.
    """
    planned = built.planned
    epoch = planned.epoch
    squashed = len(layers) != len(built.snapshot.layers)
    history = _squashed(built, layers) if squashed else _history(built)
    times = [made(layer) if epoch is None else float(epoch) for layer in layers]
    history = _dated(history, times, built.base_layers)
    created = timestamp(epoch) if epoch is not None else (history[-1].created if history else timestamp(0))
    base = planned.base.config if planned.base is not None else None
    diffs = [layer.diff for layer in layers]
    return ImageConfig(
        rootfs=RootFS(diffs),
        architecture=planned.platform.architecture,
        os=planned.platform.os,
        variant=planned.platform.variant or UNSET,
        os_version=base.os_version if base is not None else UNSET,
        created=created,
        author=planned.author or UNSET,
        config=planned.config,
        history=history,
        build_cache=inline(built.solved, chain_ids(diffs)) or UNSET,
    )


def timestamp(seconds: float) -> str:
    """A point in time in RFC 3339; whole seconds without a fraction, as Go writes them."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _history(built: BuiltImage) -> list[History]:
    """The base's history and a line for each step; as many lines with a layer as there are layers."""
    history = _complete(list(built.planned.base_history), built.base_layers)
    below = built.base_layers
    for step, output in zip(built.planned.steps, built.outputs, strict=True):
        added = len(output.layers) - below if output is not None else 0
        line = History(created_by=step.created_by, comment=step.comment, author=built.planned.author)
        if added <= 0:
            history.append(replace(line, empty_layer=True))
            continue
        # A step may have made several layers (a directory of a repository merged in): each has its line.
        history.extend([line] * added)
        below += added
    return _complete(history, len(built.snapshot.layers))


def _squashed(built: BuiltImage, layers: Sequence[Layer]) -> list[History]:
    """The same, where all that the build has added is one layer; its line tells nothing of the steps but that they were."""
    history = [replace(line, empty_layer=True) for line in _history(built)[len(built.planned.base_history) :]]
    base = _complete(list(built.planned.base_history), built.base_layers)
    last = History(comment="merge of all layers that the build made", created_by="")
    return _complete([*base, *history, *([last] if len(layers) > built.base_layers else [])], len(layers))


def _complete(history: list[History], layers: int) -> list[History]:
    """A history with exactly as many lines that have a layer as there are layers, whatever a base image says of itself."""
    excess = sum(not line.empty_layer for line in history) - layers
    completed: list[History] = []
    for line in history:
        if excess > 0 and not line.empty_layer:
            completed.append(replace(line, empty_layer=True))
            excess -= 1
        else:
            completed.append(line)
    return [*completed, *[History(comment=_COMMENT)] * max(0, -excess)]


def _dated(history: list[History], times: Sequence[float], base_layers: int) -> list[History]:
    """A time for each line that has none: its layer's, or that of the next layer of this build, or else of the last one."""
    position = 0
    dated: list[History] = []
    for line in history:
        if not line.empty_layer:
            moment = line.created or timestamp(times[position])
            dated.append(replace(line, created=moment))
            position += 1
        else:
            dated.append(line)
    new = timestamp(times[base_layers]) if len(times) > base_layers else None
    last = new or next((line.created for line in reversed(dated) if line.created), timestamp(0))
    gap = False
    for at, line in enumerate(dated):
        if line.created is None:
            gap = True
            dated[at] = replace(line, created=last)
        elif gap:
            last = line.created
    return dated

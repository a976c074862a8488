"""Whether a figure that was sampled over time grows: the slope through all samples, not the difference between two."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

_CERTAIN = 3.0


class Trend(msgspec.Struct, frozen=True):
    """A straight line through samples.

    Attributes:
        first, last, highest: of the samples themselves.
        growth: what the line gains from the first sample to the last.
        error: the standard error of that, from how far the samples lie off the line.
    """

    first: float
    last: float
    highest: float
    growth: float
    error: float

    def exceeds(self, room: float) -> bool:
        """Whether the line gains more than ``room``, and that not by the samples' scatter alone."""
        return self.growth - _CERTAIN * self.error > room


def trend(moments: Sequence[float], values: Sequence[float]) -> Trend:
    """The least squares line through ``values`` at ``moments``, at least three of them."""
    count = len(moments)
    centre, mean = sum(moments) / count, sum(values) / count
    spread = sum((moment - centre) ** 2 for moment in moments)
    slope = sum((moment - centre) * (value - mean) for moment, value in zip(moments, values, strict=True)) / spread
    off = sum((value - mean - slope * (moment - centre)) ** 2 for moment, value in zip(moments, values, strict=True))
    length = moments[-1] - moments[0]
    return Trend(values[0], values[-1], max(values), slope * length, math.sqrt(off / (count - 2) / spread) * length)

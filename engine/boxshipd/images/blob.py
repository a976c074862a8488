"""A blob by what it is: no more than its digest and its size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob's digest and size in bytes."""

    digest: str
    size: int

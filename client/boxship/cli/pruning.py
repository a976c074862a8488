"""What every ``prune`` does: ask before, and tell afterwards what became free."""

from __future__ import annotations

import sys

from boxship.cli.command import Context
from boxship.units import human_size


def confirmed(warning: str) -> bool:
    """Whether the user agrees."""
    sys.stdout.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def report(context: Context, results: list[tuple[str, int]]) -> int:
    """Tell what went, and how many bytes became free."""
    for text, _ in results:
        if text:
            context.print(text)
    context.print(f"Total reclaimed space: {human_size(sum(space for _, space in results), 4)}")
    return 0

"""Medians, percentiles, and the tables they are printed in."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(title: str, rows: dict[str, dict[str, float]], unit: str, *, base: str = "boxship", digits: int = 1) -> None:
    """Print rows of figures, each beside its ratio to ``base``'s."""
    print(f"\n## {title} ({unit})")
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print("| who | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for name, row in rows.items():
        cells = []
        for column in columns:
            if column not in row:
                cells.append("")
                continue
            reference = rows.get(base, {}).get(column)
            ratio = f" ({row[column] / reference:.2f}x)" if reference and name != base else ""
            cells.append(f"{row[column]:.{digits}f}{ratio}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

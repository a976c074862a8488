"""The numbers of ``boxship stats``, which are Docker's."""

from __future__ import annotations

import pytest
from boxship.cli.stats import COLUMNS
from boxship.cli.stats_numbers import TITLES, block_io, cpu_percentage, memory_used, row
from boxship.terminal.table import render

CPU = {"cpu_usage": {"total_usage": 3_000}, "system_cpu_usage": 20_000, "online_cpus": 4}
BEFORE = {"cpu_usage": {"total_usage": 1_000}, "system_cpu_usage": 10_000}


@pytest.mark.parametrize(
    ("now", "before", "percentage"),
    [
        (CPU, BEFORE, 80.0),
        (CPU, {}, 60.0),
        ({**CPU, "online_cpus": 0, "cpu_usage": {"total_usage": 3_000, "percpu_usage": [1, 2]}}, BEFORE, 40.0),
        (BEFORE, BEFORE, 0.0),
        ({"cpu_usage": {"total_usage": 0}}, BEFORE, 0.0),
    ],
)
def test_processor_time(now, before, percentage):
    assert cpu_percentage({"cpu_stats": now, "precpu_stats": before}) == pytest.approx(percentage)


@pytest.mark.parametrize(
    ("memory", "used"),
    [
        ({"usage": 100, "stats": {"total_inactive_file": 30, "inactive_file": 10}}, 70),
        ({"usage": 100, "stats": {"inactive_file": 10}}, 90),
        ({"usage": 100, "stats": {"inactive_file": 100}}, 100),
        ({}, 0),
    ],
)
def test_memory(memory, used):
    assert memory_used(memory) == used


def test_block_io():
    entries = [{"op": op, "value": value} for op, value in (("Read", 1), ("read", 2), ("Write", 4), ("Sync", 8), ("", 16))]
    assert block_io({"io_service_bytes_recursive": entries}) == (3, 4)


def test_a_row():
    sample = {
        "id": "ab" * 32,
        "name": "/box",
        "cpu_stats": CPU,
        "precpu_stats": BEFORE,
        "memory_stats": {"usage": 1 << 20, "limit": 4 << 20},
        "pids_stats": {"current": 3},
        "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 2}, "eth1": {"rx_bytes": 500, "tx_bytes": 0}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 147456}]},
    }
    lines = render("", [row("box", sample, truncate=True), row("other", None, truncate=True)], TITLES, COLUMNS).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["abababababab", "box", "80.00%", "1MiB", "/", "4MiB", "25.00%", "1.5kB", "/", "2B", "147kB", "/", "0B", "3"],
        ["other", "--", "--", "--", "/", "--", "--", "--", "--", "--"],
    ]
    assert lines[0].split("   ")[0] == "CONTAINER ID"

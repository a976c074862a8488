"""Builds compared with dockerd's classic builder: the same Dockerfile and context, the same files and configuration.

What dockerd makes of each case is on record, so that it need not be installed; ``make test-projects`` checks the record itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.build_cases import FAILURES, NEWER, Case
from support.build_outcomes import RECORD, SUCCEEDING, Docker
from support.busybox import busybox_archive
from support.daemon import DOCKER, Daemon

from benchmarks.engine import dockerd

pytestmark = pytest.mark.skipif(DOCKER is None, reason="Docker's command line is missing, or older than release 26")

EXPECTED: dict[str, dict[str, Any]] = json.loads(RECORD.read_text())


def _named(case: Case) -> str:
    return case.name


@pytest.fixture(scope="module")
def reference() -> Iterator[Docker]:
    """Docker's command line on a dockerd that has busybox."""
    with dockerd() as engine:
        docker = Docker(engine.socket)
        docker.run("load", stdin=busybox_archive())
        yield docker


@pytest.mark.parametrize("case", SUCCEEDING, ids=_named)
def test_result_is_the_classic_builders(case: Case, daemon: Daemon, tmp_path: Path) -> None:
    expected = EXPECTED[case.name]
    expected = {**expected, "files": {**expected["files"], **NEWER.get(case.name, {})}}
    assert Docker(daemon.socket).succeed(case, case.write(tmp_path / "context")) == expected


@pytest.mark.parametrize("case", FAILURES, ids=_named)
def test_what_the_classic_builder_refuses_is_refused(case: Case, daemon: Daemon, tmp_path: Path) -> None:
    outcome = Docker(daemon.socket).fail(case, case.write(tmp_path / "context"))
    assert outcome["status"] == EXPECTED[case.name]["status"], outcome


@pytest.mark.xdist_group("dockerd")
@pytest.mark.skipif(not os.environ.get("BOXSHIP_TEST_PEERS"), reason="run by make test-projects")
@pytest.mark.skipif(shutil.which("dockerd") is None, reason="dockerd isn't installed")
def test_the_record_is_what_dockerd_does(reference: Docker, tmp_path: Path) -> None:
    from support.build_outcomes import record

    assert record(reference, tmp_path) == EXPECTED

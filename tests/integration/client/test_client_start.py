"""What a command imports: nothing that it doesn't use, because starting is most of what a command does."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.daemon import Daemon

RUN = ["run", "--rm", "--network", "none", "busybox", "true"]
HEAVY = frozenset(
    ["asyncio", "typing_extensions", "dataclasses", "inspect", "pathlib", "subprocess", "urllib", "email", "http", "ssl", "logging",
     "tempfile", "threading", "msgspec", "typer", "click", "rich", "h11", "wsproto", "aiohttp", "argparse", "datetime", "base64"]
)  # fmt: skip
NOT_FOR_BUILD = frozenset(
    ["asyncio", "pathlib", "subprocess", "urllib", "email", "http", "ssl", "logging", "tempfile", "typer", "click", "rich", "h11",
     "wsproto", "aiohttp", "argparse", "base64", "csv", "hashlib", "tarfile", "shutil", "queue",
     "boxship.archive.ignore", "boxship.archive.unpacking", "boxship.building.outputs", "boxship.building.live",
     "boxship.building.ticking"]
)  # fmt: skip
NOT_FOR_RUN = frozenset(
    ["boxship.credentials", "boxship.references", "boxship.terminal.progress", "boxship.terminal.live", "boxship.manifests",
     "boxship.transfer", "boxship.types", "boxship.terminal.table", "boxship.cli.pull", "boxship.units", "termios"]
)  # fmt: skip


def imported(daemon: Daemon, *args: str) -> set[str]:
    """The modules that a command has imported at its end."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "boxship.cli.main", *args],
        env=daemon.env(), capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return {line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")}


@pytest.fixture
def baseline() -> set[str]:
    """What the interpreter imports for itself, an editable installation's finder included."""
    result = subprocess.run([sys.executable, "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}


@pytest.mark.parametrize("args", [RUN, ["ps"], ["images"], ["version", "-f", "json"]], ids=lambda args: args[0])
def test_nothing_heavy_is_imported(daemon, baseline, args):
    modules = imported(daemon, *args) - baseline
    roots = {module.partition(".")[0] for module in modules}
    assert not roots & HEAVY


def test_run_imports_no_other_commands_parts(daemon, baseline):
    modules = imported(daemon, *RUN) - baseline
    found = {module for module in modules if any(module == name or module.startswith(name + ".") for name in NOT_FOR_RUN)}
    assert not found
    assert len({module for module in modules if module.startswith("boxship")}) <= 34


def test_a_build_imports_nothing_that_it_has_no_use_for(daemon, baseline, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    modules = imported(daemon, "build", "-q", str(tmp_path)) - baseline
    assert not modules & NOT_FOR_BUILD

"""A plug-in for foreign suites: images that they would pull are there before each of their cases, whatever the last one removed."""

from __future__ import annotations

import os
import subprocess

KEPT = "kept-for-the-suite:latest"
"""The name under which the image stays."""

VARIABLE = "SUITE_IMAGES"
"""In the environment: the names, separated by spaces."""


def pytest_runtest_setup() -> None:
    """Give the image its names again."""
    for name in os.environ[VARIABLE].split():
        subprocess.run(["docker", "tag", KEPT, name], check=True, capture_output=True)

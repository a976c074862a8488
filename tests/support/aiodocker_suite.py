"""aiodocker's own test suite, out of its source distribution, run against a daemon.

Run against any daemon, to compare: ``PYTHONPATH=tests python -m support.aiodocker_suite unix:///var/run/docker.sock``.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from support.pulled_images import KEPT, VARIABLE
from support.python_image import python_root

IMAGES = ("python:3.13-alpine", "python:3.14-alpine")
"""What the suite would pull."""

SWARM = ("test_configs", "test_nodes", "test_secrets", "test_services", "test_swarm")
"""Its modules that are about Swarm."""
_TESTS = Path(__file__).resolve().parents[1]


def fetch(directory: Path) -> Path:
    """Download the source distribution of the version that is installed; the directory it was unpacked to."""
    version = importlib.metadata.version("aiodocker")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-binary", "aiodocker", "--dest", str(directory), f"aiodocker=={version}"),
        ],
        check=True,
        capture_output=True,
    )
    with tarfile.open(directory / f"aiodocker-{version}.tar.gz") as archive:
        archive.extractall(directory, filter="data")
    return directory / f"aiodocker-{version}"


def provide_images(environment: dict[str, str]) -> None:
    """Give a daemon what the suite would pull, under a name that is kept.

    Args:
        environment: with ``DOCKER_HOST``, and where the command ``docker`` is found.
    """
    change = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    command = ["docker", "import", "--change", change, "--change", 'CMD ["python"]', "-", KEPT]
    subprocess.run(command, input=python_root(), env=environment, check=True, capture_output=True)


def run(suite: Path, environment: dict[str, str], *arguments: str) -> dict[str, str]:
    """Run the suite against a daemon that has its images, Swarm aside.

    Args:
        suite: the unpacked distribution.
        environment: as for the images.
        arguments: pytest's, further ones.

    Returns:
        Of each case by its name how it ended: ``passed``, ``skipped``, or ``failed: `` and why.
    """
    report = suite / "report.xml"
    result = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "support.pulled_images",
                "-o",
                "addopts=",
                "--junit-xml",
                str(report),
            ),
            # The suite leaves it unset on purpose: its fixtures of the session are asynchronous.
            *("-W", "ignore:The configuration option:pytest.PytestDeprecationWarning", "--timeout", "60"),
            # Connections that a case left to the garbage collector are otherwise the fault of whichever case comes next.
            *("-W", "ignore::pytest.PytestUnraisableExceptionWarning"),
            *(f"--ignore=tests/{module}.py" for module in SWARM),
            *arguments,
        ],
        cwd=suite,
        env=environment | {"TESTCONTAINERS_RYUK_DISABLED": "true", "PYTHONPATH": str(_TESTS), VARIABLE: " ".join(IMAGES)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode > 1:
        raise AssertionError(f"the suite itself failed:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return _outcomes(report)


def _outcomes(report: Path) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        # Of "tests.test_context.TestLoadContextTLS" the first two are a file.
        _, module, *classes = case.get("classname", "").split(".")
        name = "::".join([f"tests/{module}.py", *classes, case.get("name", "")])
        bad = [child for child in case if child.tag in ("failure", "error")]
        if bad:
            found[name] = "failed: " + " ".join(bad[0].get("message", "").split())[:300]
        else:
            found[name] = "skipped" if case.find("skipped") is not None else "passed"
    return found


def main() -> None:
    """Print how each case ended, and how many of each kind."""
    with tempfile.TemporaryDirectory() as directory:
        suite = fetch(Path(directory))
        environment = os.environ | {"DOCKER_HOST": sys.argv[1], "DOCKER_CONFIG": directory}
        provide_images(environment)
        outcomes = run(suite, environment, *sys.argv[2:])
    for name, outcome in sorted(outcomes.items()):
        print(f"{name}: {outcome}")
    for kind in ("passed", "skipped", "failed"):
        print(f"{sum(outcome.startswith(kind) for outcome in outcomes.values())} {kind}")


if __name__ == "__main__":
    main()

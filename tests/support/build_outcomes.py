"""What comes of a build, to be compared; and the record of what came of all cases with dockerd's classic builder.

The record is made anew, where dockerd is installed, by ``PYTHONPATH=tests:. python -m support.build_outcomes``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.build_cases import CONFIGURATION, FAILURES, FILES, RUNNING, STAGES, STAMP, Case
from support.busybox import busybox_archive

RECORD = Path(__file__).parent / "build_outcomes.json"
SUCCEEDING = (*CONFIGURATION, *RUNNING, *FILES, *STAGES)

# What engines put into every container themselves.
_ENGINES = frozenset(("dev", "proc", "sys", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "etc"))
_CONFIG = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck",
           "OnBuild", "Shell")  # fmt: skip


class Docker:
    """Docker's command line on one daemon.

    Args:
        socket: the daemon's.
    """

    def __init__(self, socket: str) -> None:
        self._environment = os.environ | {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
        self._base: dict[str, Any] = {}

    def run(self, *words: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run a command."""
        return subprocess.run(["docker", *words], input=stdin, capture_output=True, env=self._environment, check=check)

    def succeed(self, case: Case, directory: Path) -> dict[str, Any]:
        """Build, and look at the result: its configuration, and its files where they aren't those of busybox."""
        done = self.run("build", "-q", *case.flags, str(directory), check=False)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        image = done.stdout.decode().strip()
        try:
            self._base = self._base or self._files("busybox")
            files = self._files(image)
            changed = {name: files.get(name) for name in files.keys() | self._base if files.get(name) != self._base.get(name)}
            return {"config": self._config(image), "files": dict(sorted(changed.items()))}
        finally:
            self.run("rmi", "-f", image, check=False)

    def fail(self, case: Case, directory: Path) -> dict[str, Any]:
        """Build what can't be built: the exit status and the last thing said."""
        done = self.run("build", "-q", *case.flags, str(directory), check=False)
        assert done.returncode != 0, done.stdout.decode()
        said = [line for line in done.stderr.decode().strip().splitlines() if line]
        return {"status": done.returncode, "message": said[-1]}

    def _files(self, image: str) -> dict[str, list[Any]]:
        """Every file of an image: kind, mode, owner, what it holds, and whether its time is the context's."""
        container = self.run("create", image, "nothing").stdout.decode().strip()
        try:
            data = self.run("export", container).stdout
        finally:
            self.run("rm", container)
        found: dict[str, list[Any]] = {}
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                name = info.name.strip("/")
                if name in _ENGINES or not name:
                    continue
                source = archive.extractfile(info) if info.isreg() or info.islnk() else None
                content = hashlib.sha256(source.read()).hexdigest() if source else info.linkname
                kind = tarfile.REGTYPE if info.islnk() else info.type
                dated = info.mtime == STAMP and not info.isdir()
                found[name] = [kind.decode(), oct(info.mode & 0o7777), info.uid, info.gid, content, dated]
        return found

    def _config(self, image: str) -> dict[str, Any]:
        (inspected,) = json.loads(self.run("image", "inspect", image).stdout)
        config: Mapping[str, Any] = inspected["Config"]
        # Absent, null and empty are the same to whoever reads it, and the root is where programs start by default.
        values = {key: config.get(key) or None for key in _CONFIG}
        values["WorkingDir"] = None if values["WorkingDir"] == "/" else values["WorkingDir"]
        return values | {"Author": inspected.get("Author") or None}


def record(docker: Docker, directory: Path) -> dict[str, Any]:
    """The outcome of every case."""
    outcomes = {case.name: docker.succeed(case, case.write(directory / case.name)) for case in SUCCEEDING if not case.own}
    return outcomes | {case.name: docker.fail(case, case.write(directory / case.name)) for case in FAILURES}


def _main() -> None:
    from benchmarks.engine import dockerd

    with dockerd() as engine, tempfile.TemporaryDirectory() as directory:
        docker = Docker(engine.socket)
        docker.run("load", stdin=busybox_archive())
        outcomes = record(docker, Path(directory))
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(outcome, sort_keys=True)}" for name, outcome in outcomes.items())
    RECORD.write_text(f"{{\n{lines}\n}}\n")
    print(f"{len(outcomes)} outcomes", file=sys.stderr)


if __name__ == "__main__":
    _main()

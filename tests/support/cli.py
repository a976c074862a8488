"""Command line clients with a configuration directory of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.daemon import Daemon


class Client:
    """``docker`` or ``boxship``, speaking to a daemon of ours.

    Args:
        daemon: the daemon.
        name: the program.
        config: its configuration directory.
    """

    def __init__(self, daemon: Daemon, name: str, config: Path) -> None:
        self.daemon = daemon
        self.name = name
        self.config = config
        self.env = daemon.env() | {"DOCKER_CONFIG": str(config)}

    def __call__(self, *args: str, code: int = 0, stdin: str | None = None) -> str:
        """Run it; what it said on standard output."""
        return self.both(*args, code=code, stdin=stdin)[0]

    def both(self, *args: str, code: int = 0, stdin: str | None = None) -> tuple[str, str]:
        """Run it; standard output and error, with its own name as Docker's."""
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        result = subprocess.run(
            [*self.daemon.command(self.name), *args], capture_output=True, env=self.env, check=False, text=True, timeout=120, **given
        )  # fmt: skip
        said = f"{self.name} {' '.join(args)}: exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        assert result.returncode == code, f"{said}\n{self.daemon.log()[-2000:]}"
        return result.stdout.replace("boxship", "docker"), result.stderr.replace("boxship", "docker")

    @property
    def config_file(self) -> Path:
        """Its ``config.json``."""
        return self.config / "config.json"


def put_program(directory: Path, name: str, text: str) -> None:
    """Write a program that a ``PATH`` with the directory finds."""
    path = directory / name
    path.write_text(text)
    os.chmod(path, 0o755)

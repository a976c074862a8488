"""Completion in the shells themselves: what a user gets who presses Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.terminal import Terminal

BASH = r"""
eval "$(boxship completion bash)"
COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
_boxship_complete
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def env(daemon: Daemon, tmp_path: Path) -> dict[str, str]:
    """An environment in which ``boxship`` is our command line."""
    program = tmp_path / "boxship"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m boxship.cli.main "$@"\n')
    program.chmod(0o755)
    return daemon.env() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.fixture
def named(daemon: Daemon):
    """A running, a stopped and a paused-able container with names that tell them apart."""
    daemon.cli("docker", "run", "-d", "--name", "compl-running", "busybox", "sleep", "1000")
    daemon.cli("docker", "create", "--name", "compl-created", "busybox", "true")
    yield
    daemon.cli("docker", "rm", "-f", "compl-running", "compl-created")


def complete(env: dict[str, str], *words: str) -> tuple[list[str], str]:
    """The candidates and the directive for a command line, as every script gets them."""
    out = subprocess.run(["boxship", "__complete", *words], env=env, check=True, capture_output=True, text=True).stdout
    *lines, directive = out.splitlines()
    return [line.partition("\t")[0] for line in lines], directive


def test_containers_by_what_the_command_can_use(env, named):
    assert complete(env, "stop", "compl-") == (["compl-running"], ":")
    assert complete(env, "start", "compl-") == (["compl-created"], ":")
    assert complete(env, "rm", "-f", "compl-") == (["compl-created", "compl-running"], ":")
    assert complete(env, "container", "inspect", "compl-r") == (["compl-running"], ":")
    assert complete(env, "run", "--network", "container:compl-r") == (["container:compl-running"], ":")


def test_images_with_and_without_their_tag(env, named):
    assert complete(env, "run", "-it", "--name", "x", "busyb") == (["busybox", "busybox:latest"], ":")
    assert complete(env, "run", "busybox", "s")[1] == ":files"
    assert complete(env, "rmi", "busybox:") == (["busybox:latest"], ":")


def test_flags_and_their_values(env):
    assert complete(env, "run", "--log-driver", "js") == (["json-file"], ":")
    assert complete(env, "run", "--log-driver=js") == (["--log-driver=json-file"], ":")
    assert complete(env, "ps", "--no-t") == (["--no-trunc"], ":")
    assert complete(env, "load", "--input", "/etc/h") == ([], ":files")


def test_registries_and_what_goes_to_them(env, named, tmp_path):
    (tmp_path / "config.json").write_text('{"auths": {"one.example": {}, "two.example:5000": {}}}')
    env = env | {"DOCKER_CONFIG": str(tmp_path)}
    assert complete(env, "logout", "") == (["one.example", "two.example:5000"], ":")
    assert complete(env, "login", "two") == (["two.example:5000"], ":")
    assert complete(env, "push", "busyb") == (["busybox", "busybox:latest"], ":")
    assert complete(env, "manifest", "create", "x", "busybox:") == (["busybox:latest"], ":")
    assert complete(env, "image", "cp", "--to", "x", "compl-r") == (["compl-running"], ":")
    assert complete(env, "image", "cp", "--to", "x", "busybox:") == (["busybox:latest"], ":")
    assert complete(env, "cp", "compl-r") == (["compl-running:"], ":files")
    assert complete(env, "pull", "--platform", "linux/am") == (["linux/amd64"], ":")
    assert complete(env, "manifest", "") == (["annotate", "create", "inspect", "push", "rm"], ":")


def test_a_daemon_that_is_not_there_costs_the_names_only(env):
    assert complete(env | {"BOXSHIP_HOST": "unix:///nonexistent/socket"}, "stop", "") == ([], ":")


def bash(env: dict[str, str], line: str, *words: str) -> list[str]:
    out = subprocess.run(["bash", "-c", BASH, "bash", line, *words], env=env, check=True, capture_output=True, text=True)
    return out.stdout.split()


def test_bash(env, named):
    assert bash(env, "boxship stop compl-", "boxship", "stop", "compl-") == ["compl-running"]
    # Bash has broken these words at ':' and '='; what it replaces is the part behind.
    assert bash(env, "boxship rmi busybox:la", "boxship", "rmi", "busybox", ":", "la") == ["latest"]
    assert bash(env, "boxship run --log-driver=js", "boxship", "run", "--log-driver", "=", "js") == ["json-file"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish(env, named):
    script = 'boxship completion fish | source; complete -C "boxship stop compl-"; complete -C "boxship run --log-driver=js"'
    out = subprocess.run(["fish", "-c", script], env=env, check=True, capture_output=True, text=True).stdout
    assert out.splitlines() == ["compl-running\tbusybox", "--log-driver=json-file"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh(env, named):
    shell = Terminal(["zsh", "-f", "-i"], env | {"PS1": "ready> "})
    shell.expect(b"ready> ")
    shell.send(b"autoload -U compinit; compinit -u -D; source <(boxship completion zsh); echo lo''aded\n")
    shell.expect(b"loaded\r\n")
    shell.send(b"boxship stop compl-\t")
    shell.expect(b"compl-running")
    shell.send(b"\x15exit\n")
    assert shell.end(restored=False) == 0

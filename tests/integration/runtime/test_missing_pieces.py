"""Machines that lack something: what takes its place is as safe, or the engine says no."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("setpriv") and shutil.which("unshare")), reason="needs root and util-linux"
)


def told_by(script: str, *before: str) -> dict[str, object]:
    """What a Python script prints as JSON; ``before`` starts it."""
    result = subprocess.run(
        [*before, sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert isinstance(told, dict)
    return told


SEALED = """
import fcntl, json, os, subprocess, sys
from boxrun.supervisor.interpreter import library_path, sealed_interpreter
fd = sealed_interpreter()
command = [sys.executable, "-I", "-S", "-c", "print('runs')"]
env = {"LD_LIBRARY_PATH": library_path()}
ran = subprocess.run(command, executable=f"/proc/self/fd/{fd}", pass_fds=[fd], env=env, capture_output=True, text=True)
refused = []
for act in (
    lambda: os.pwrite(fd, b"x", 0),
    lambda: os.ftruncate(fd, 0),
    lambda: os.write(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), b"x"),
    lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0),
):
    try:
        act()
    except OSError as error:
        refused.append(error.strerror)
print(json.dumps({"is": os.readlink(f"/proc/self/fd/{fd}"), "refused": refused, "ran": ran.stdout}))
"""


def test_where_mounts_cannot_be_cloned_the_interpreter_is_a_sealed_copy():
    told = told_by(SEALED, "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    assert str(told["is"]).startswith("/memfd:boxrun-interpreter")
    assert told["refused"] == ["Operation not permitted"] * 4
    assert told["ran"] == "runs\n"


WITHOUT_LIBRARY = """
import json
from boxrun.container.defaults import DEFAULT_CAPABILITIES
from boxrun.container.seccomp.compiler import available, compile_profile
from boxrun.container.seccomp.errors import SeccompUnavailableError
from boxrun.container.spec import Seccomp
try:
    compile_profile(Seccomp(), DEFAULT_CAPABILITIES)
    refused = False
except SeccompUnavailableError:
    refused = True
unconfined = compile_profile(Seccomp(mode="unconfined"), DEFAULT_CAPABILITIES)
print(json.dumps({"reason": available(), "refused": refused, "unconfined": unconfined.hex()}))
"""


def test_without_libseccomp_nothing_runs_but_the_unconfined():
    hide = 'for file in $(ls /usr/lib/*/libseccomp.so* /lib/*/libseccomp.so* 2>/dev/null); do mount --bind /dev/null "$file"; done; exec "$@"'
    told = told_by(WITHOUT_LIBRARY, "unshare", "--mount", "sh", "-c", hide, "sh")
    assert "libseccomp" in str(told["reason"])
    assert told["refused"] is True
    assert told["unconfined"] == ""

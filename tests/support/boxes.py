"""Containers from a busybox root file system, started by a fork server of their own."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from boxrun.container import defaults
from boxrun.container.spec import Cgroup, Namespace, Process, Root, Spec

APPLETS = (
    *(
        "sh",
        "ls",
        "cat",
        "id",
        "mount",
        "env",
        "pwd",
        "touch",
        "ln",
        "mkdir",
        "rm",
        "mv",
        "stat",
        "tty",
        "stty",
        "echo",
        "kill",
        "sleep",
    ),
    *("true", "head", "grep", "hostname", "wc", "chmod", "dd", "readlink"),
)
ALL_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")


class NotStartedError(Exception):
    """The container didn't start; has the fields of StartFault."""

    def __init__(self, event):
        super().__init__(event["message"])
        self.__dict__.update(event)


class Box:
    """One container's directories, its spec and, once started, its life."""

    def __init__(self, harness, directory):
        self._harness = harness
        self.directory = directory
        self.rootfs = directory / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        shutil.copy(busybox, self.rootfs / "bin/busybox")
        for applet in APPLETS:
            (self.rootfs / "bin" / applet).symlink_to("busybox")
        for name in ("upper", "work"):
            (directory / name).mkdir()
        self.output = directory / "output"
        self.input = directory / "input"
        self.warnings = []
        self.fds = 0

    def spec(self, *args, namespaces=ALL_NAMESPACES, process=None, root=None, **fields):
        settings = {
            "args": args,
            "env": ("PATH=/bin",),
            "capabilities": defaults.DEFAULT_CAPABILITIES,
        } | (process or {})
        base = {
            "id": "0123456789abcdef" * 4,
            "state_dir": str(self.directory),
            "process": Process(**settings),
            "root": Root(
                lower=(str(self.rootfs),),
                upper=str(self.directory / "upper"),
                work=str(self.directory / "work"),
                **(root or {}),
            ),
            "cgroup": Cgroup(parent="/boxship-test", name="test"),
            "namespaces": tuple(Namespace(kind=kind) if isinstance(kind, str) else kind for kind in namespaces),
            "mounts": defaults.default_mounts(),
            "masked_paths": defaults.MASKED_PATHS,
            "readonly_paths": defaults.READONLY_PATHS,
        }
        if "extra_mounts" in fields:
            base["mounts"] += tuple(fields.pop("extra_mounts"))
        return Spec(**(base | fields))

    def start(self, spec, *, stdin=b"", joins=None, seccomp=b"", cgroup="", before="", expect=""):
        """Start the container and return its process 1, or raise NotStartedError."""
        self.input.write_bytes(stdin)
        self.output.write_bytes(b"")
        request = {
            "spec": msgspec.json.encode(spec).decode(),
            "joins": joins or {},
            "output": str(self.output),
            "stdin": str(self.input),
            "seccomp": base64.b64encode(seccomp).decode(),
            "cgroup": cgroup,
            "before": before,
            "expect": expect,
        }
        self._harness.stdin.write(json.dumps(request) + "\n")
        self._harness.stdin.flush()
        event = self._event()
        if event["event"] == "failed":
            raise NotStartedError(event)
        self.warnings = event["warnings"]
        self.fds = event["fds"]
        return event["pid"]

    def wait(self):
        """Wait for the end and return the exit code, negative for a signal."""
        return self._event()["code"]

    def run(self, *args, stdin=b"", joins=None, seccomp=b"", cgroup="", before="", expect="", **spec):
        """Run to the end and return the exit code and the output; with a terminal the input waits for the text ``expect``."""
        self.start(
            self.spec(*args, **spec), stdin=stdin, joins=joins, seccomp=seccomp, cgroup=cgroup, before=before, expect=expect
        )
        code = self.wait()
        return code, self.output.read_text()

    def shell(self, script, **options):
        """Run a shell script that must succeed and return its output's lines."""
        code, output = self.run("sh", "-c", script, **options)
        assert code == 0, output
        return output.splitlines()

    def _event(self):
        line = self._harness.stdout.readline()
        assert line, "the harness died"
        return json.loads(line)


@contextmanager
def fork_server() -> Iterator[subprocess.Popen[str]]:
    """What starts them: ``support.box_server`` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "support.box_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield process
        process.stdin.close()
        process.kill()


@pytest.fixture(scope="session")
def harness() -> Iterator[subprocess.Popen[str]]:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    if shutil.which("busybox") is None:
        pytest.skip("no busybox on this machine")
    with fork_server() as process:
        yield process


@pytest.fixture
def box(harness: subprocess.Popen[str], tmp_path: Path) -> Box:
    return Box(harness, tmp_path)

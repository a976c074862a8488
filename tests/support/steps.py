"""Killing a process at the n-th system call of a kind: at every step of what it does, not at some moment or other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

STEPS = (
    "fdatasync",
    "sendmsg",
    "sendto",
    "rename",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
)
"""What makes anything durable or known to another process. strace(1) counts each by itself."""


@contextmanager
def killed_at(pid: int, call: str, number: int) -> Iterator[None]:
    """Have a process killed when one of its threads begins its ``number``-th system call ``call`` within the context.

    Raises:
        AssertionError: strace can't trace the process.
    """
    tracer = subprocess.Popen(
        [
            *("strace", "--follow-forks", f"--attach={pid}", "--output=/dev/null", f"--trace={call}"),
            f"--inject={call}:signal=SIGKILL:when={number}",
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    try:
        said = tracer.stderr.readline()
        assert "attached" in said, said
        yield
    finally:
        tracer.terminate()
        try:
            tracer.wait(10)
        except subprocess.TimeoutExpired:
            # It waits for a process that is in vfork(2); the kernel lets that go.
            tracer.kill()
            tracer.wait()
        tracer.stderr.close()

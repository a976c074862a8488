"""All of the daemon's threads share one arena of the C library's heap."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from boxshipd.heap import share_one_arena
if "share" in sys.argv:
    assert share_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
# Threads that are alive at once: an arena whose thread has ended is the next one's.
meeting = threading.Barrier(4)
threads = [threading.Thread(target=lambda: (libc.malloc(10_000), meeting.wait())) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


def arenas(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return sum(line.startswith("Arena ") for line in done.stderr.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_threads_share_one_arena():
    assert arenas() > 1
    assert arenas("share") == 1

"""A child in borrowed memory: what it changes of itself stays its own, and the parent goes on as if it had never been."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from boxrun.linux import vfork

pytestmark = pytest.mark.skipif(not vfork.SUPPORTED, reason="for x86-64 and CPython before 3.14")


def _status(pid: int, pidfd: int) -> int:
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_program_runs_and_its_status_is_the_childs() -> None:
    def body() -> NoReturn:
        os.execv("/bin/sh", ["sh", "-c", "exit 7"])

    assert _status(*vfork.spawn(0, None, body)) == 7


def test_a_child_that_executes_nothing_can_end() -> None:
    def body() -> NoReturn:
        os._exit(9)

    assert _status(*vfork.spawn(0, None, body)) == 9


def test_a_child_that_fails_never_goes_on_with_the_parents_work(capfd: pytest.CaptureFixture[str]) -> None:
    def body() -> NoReturn:
        raise RuntimeError("in the child")

    assert _status(*vfork.spawn(0, None, body)) == 1


def test_descriptors_and_directory_are_the_childs_own(tmp_path: Path) -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    before = os.getcwd()

    def body() -> NoReturn:
        os.close(reader)
        os.chdir(tmp_path)
        os.write(writer, os.getcwd().encode())
        os._exit(0)

    pid, pidfd = vfork.spawn(0, None, body)
    os.close(writer)
    assert os.read(reader, 4096) == bytes(tmp_path)
    os.close(reader)
    assert os.getcwd() == before
    assert _status(pid, pidfd) == 0


def test_frames_and_exceptions_of_the_child_are_not_the_parents() -> None:
    def deep(levels: int) -> NoReturn:
        if levels:
            deep(levels - 1)
        try:
            raise ValueError
        except ValueError:
            os.execv("/bin/true", ["true"])

    for _ in range(50):
        try:
            raise KeyError("the parent's")
        except KeyError as error:
            assert _status(*vfork.spawn(0, None, lambda: deep(200))) == 0
            handled = sys.exc_info()[1] is error
        assert handled
    assert sys.exc_info() == (None, None, None)
    assert sys._getframe().f_code.co_name == "test_frames_and_exceptions_of_the_child_are_not_the_parents"


def test_a_child_that_is_killed_lets_its_parent_go_on() -> None:
    def body() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)

    assert _status(*vfork.spawn(0, None, body)) == -signal.SIGKILL


def test_no_thread_is_left() -> None:
    before = len(os.listdir("/proc/self/task"))

    def body() -> NoReturn:
        os.execv("/bin/true", ["true"])

    assert _status(*vfork.spawn(0, None, body)) == 0
    while len(os.listdir("/proc/self/task")) > before:
        os.sched_yield()


def test_a_clone_that_fails_is_told() -> None:
    def body() -> NoReturn:
        os._exit(0)

    with pytest.raises(OSError, match="clone3"):
        vfork.spawn(0x8000_0000_0000, None, body)

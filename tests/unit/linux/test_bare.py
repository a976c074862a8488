"""A child without an interpreter executes a program once it is told to, and does nothing else."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from mmap import PAGESIZE, mmap

import pytest
from boxrun.linux import bare, process, vfork

pytestmark = pytest.mark.skipif(not bare.SUPPORTED, reason="x86-64, glibc and Python before 3.14 only")

ENV = [b"GREETING=hello", b"PATH=/nowhere"]


class Child:
    """A child made by a process that borrows this one's memory and has ended, as an exec's first stage has."""

    def __init__(self, path: str, *args: str) -> None:
        self._pages = mmap(-1, 2 * PAGESIZE)
        number = ctypes.c_int.from_buffer(self._pages)
        word, self.word_fd = os.pipe2(os.O_CLOEXEC)
        self.output_fd, output = os.pipe2(os.O_CLOEXEC)
        argv = [os.fsencode(argument) for argument in args]

        def stage() -> None:
            os.dup2(output, 1)
            os.close(self.word_fd)
            said = ctypes.addressof(number) + PAGESIZE
            bare.clone(number, os.fsencode(path), argv, ENV, word_fd=word, said=said)
            os._exit(0)

        pid, pidfd = vfork.spawn(process.CLONE_CLEAR_SIGHAND, None, stage)
        assert os.waitpid(pid, 0)[1] == 0
        for fd in (pidfd, word, output):
            os.close(fd)
        self.pid = number.value

    @property
    def said(self) -> int:
        return self._pages[PAGESIZE]

    def tell(self, word: bytes) -> None:
        os.write(self.word_fd, word)

    def end(self) -> tuple[int, bytes]:
        """Its wait status, and what it has written."""
        with open(self.output_fd, "rb") as output:
            text = output.read()
        return os.waitpid(self.pid, 0)[1], text


def run_apart(body) -> None:
    """In a process with one thread, as borrowing memory wants it."""
    pid = os.fork()
    if not pid:
        try:
            body()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - nothing of the tests may go on in here
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_word_has_the_program_executed_in_a_session_of_its_own():
    def body() -> None:
        child = Child(
            "/bin/sh", "name", "-c", 'read -r _ _ _ _ _ session _ < /proc/$$/stat; echo "$0 $GREETING $session $$"', "zero"
        )
        assert child.said == bare.PENDING
        child.tell(b"g")
        status, text = child.end()
        name, greeting, session, number = text.split()
        assert (status, name, greeting, child.said) == (0, b"zero", b"hello", bare.EXECUTING)
        assert int(session) == int(number) == child.pid

    run_apart(body)


@pytest.mark.parametrize("word", [b"x", b""])
def test_without_the_word_it_ends(word):
    def body() -> None:
        child = Child("/bin/echo", "echo", "executed")
        if word:
            child.tell(word)
        os.close(child.word_fd)
        status, text = child.end()
        assert (os.waitstatus_to_exitcode(status), text, child.said) == (1, b"", bare.PENDING)

    run_apart(body)


def test_what_the_kernel_refuses_is_said():
    def body() -> None:
        child = Child("/etc/passwd", "passwd")
        child.tell(b"g")
        status, text = child.end()
        assert (os.waitstatus_to_exitcode(status), text, child.said) == (1, b"", bare.REFUSED)

    run_apart(body)


def test_it_can_be_killed_at_any_time_and_others_are_made():
    def body() -> None:
        for _ in range(20):
            os.kill((child := Child("/bin/echo", "echo", "executed")).pid, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(child.end()[0]) == -signal.SIGKILL
        children = [Child("/bin/echo", "echo", str(number)) for number in range(5)]
        for child in reversed(children):
            child.tell(b"g")
        assert [child.end() for child in children] == [(0, b"%d\n" % number) for number in range(5)]

    run_apart(body)

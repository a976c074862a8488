"""Network namespaces, and the threads that go into them.

A namespace is nothing but a descriptor here: no file in /run/netns, no mount. It lasts as long as somebody holds it (this
process, a container's process, a name server's socket), so nothing is left of one when all of them have died.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from boxrun.linux.namespaces import CLONE_NEWNET, setns, unshare

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_OWN = "/proc/thread-self/ns/net"


def own() -> int:
    """A descriptor of the calling thread's namespace, which the caller owns. Raises OSError."""
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


def of_process(pid: int) -> int:
    """A descriptor of a process's namespace, which the caller owns. Raises OSError."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(namespace: int, home: int) -> Iterator[None]:
    """Be in ``namespace`` with this thread, and in ``home`` afterwards."""
    setns(namespace, CLONE_NEWNET)
    try:
        yield
    finally:
        _return(home)


@contextmanager
def new(home: int) -> Iterator[int]:
    """Be in a new namespace; its descriptor, the caller's. It is closed where the body fails."""
    unshare(CLONE_NEWNET)
    try:
        namespace = own()
        try:
            yield namespace
        except BaseException:
            os.close(namespace)
            raise
    finally:
        _return(home)


def _return(home: int) -> None:
    try:
        setns(home, CLONE_NEWNET)
    except OSError:
        # What comes next is meant for the host, and would be done in a container.
        log.critical("can't return from a network namespace")
        os._exit(70)


class NetThread:
    """A thread that works on namespaces, one act after the other."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do ``work``, to its end even if the caller is cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))
        return await asyncio.shield(future)

    def close(self) -> None:
        """End the thread after what it does."""
        self._executor.shutdown(wait=True)

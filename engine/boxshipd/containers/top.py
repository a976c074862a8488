"""``top``: a container's processes as the host's ps(1) shows them.

Which processes are the container's the runtime knows from its control group; what is shown of them is read from the host's
/proc. Nothing of the image is executed. Where the host has no ps, ``boxshipd.containers.process_table`` stands in for it.
Source: moby daemon/top_unix.go, whose rules and messages these are.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Collection, Sequence

from boxrun.supervisor.contract import ContainerRef, Runtime
from boxship.types.containers import TopResponse

from boxshipd.containers import process_table
from boxshipd.containers.model import Container
from boxshipd.errors import Conflict, InternalError, InvalidParameter
from boxshipd.events import Events
from boxshipd.runtime.link import RuntimeLink

_DEFAULT = "-ef"
_TIMEOUT = 10.0
_BLANKS = re.compile(r"[ \t\n\v\f\r]+")
"""Blanks as ps writes them: the words of a command may have other ones in them."""
_RENAMED = re.compile(r"\s+(\S*)=\s*(PID\S*)")


class Top:
    """Lists processes."""

    def __init__(self, events: Events, runtime: RuntimeLink) -> None:
        self._events = events
        self._runtime = runtime

    async def list(self, container: Container, arguments: str) -> TopResponse:
        """A container's processes.

        Args:
            container: which one.
            arguments: ps's, empty for ``-ef``.

        Raises:
            Conflict: it doesn't run, or waits to be restarted.
            InvalidParameter: the arguments could make another column look like that of the process ids.
            InternalError: ps refused, or what it said has no column PID.
        """
        arguments = arguments or _DEFAULT
        validate(arguments)
        if not container.state.running:
            raise Conflict(f"container {container.id} is not running")
        if container.state.restarting:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        reply = await self._runtime.call(Runtime.processes, ContainerRef(id=container.id), "list processes")
        program = shutil.which("ps")
        if program is None:
            answer = await asyncio.to_thread(process_table.table, arguments, reply.pids)
        else:
            answer = parse(await _run(program, arguments.split(" "), reply.pids), frozenset(reply.pids))
        self._events.publish("container", "top", container.id, container.attributes())
        return answer


def validate(arguments: str) -> None:
    """Refuse what gives another column the title PID (``-o comm=PID``), as rows are chosen by that column.

    Raises:
        InvalidParameter: with Docker's message.
    """
    for name, title in _RENAMED.findall(arguments):
        if name != "pid":
            raise InvalidParameter(f'specifying "{name}={title}" is not allowed')


def parse(output: str, pids: Collection[int]) -> TopResponse:
    """The rows of ps's ``output`` that are about ``pids``.

    Raises:
        InternalError: it has no column PID, or that has something else in it than numbers.
    """
    lines = output.split("\n")
    titles = _words(lines[0])
    if "PID" not in titles:
        raise InternalError("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows: list[list[str]] = []
    of_container = False
    for line in lines[1:]:
        words = _words(line)
        if len(words) <= column:
            continue
        if words[column] == "-":
            # A thread's line, with ps's option m, after its process'.
            if of_container:
                rows.append(_row(words, len(titles)))
            continue
        if not words[column].isascii() or not words[column].isdigit():
            raise InternalError(f"Unexpected pid '{words[column]}': invalid syntax")
        of_container = int(words[column]) in pids
        if of_container:
            rows.append(_row(words, len(titles)))
    return TopResponse(titles=titles, processes=rows)


def _words(line: str) -> list[str]:
    return [word for word in _BLANKS.split(line) if word]


def _row(words: list[str], columns: int) -> list[str]:
    """The last column has all that is left, which may be a command with blanks in it."""
    return [*words[: columns - 1], " ".join(words[columns - 1 :])]


async def _run(program: str, arguments: Sequence[str], pids: Sequence[int]) -> str:
    """What ps says. Raises InternalError."""
    chosen = "-q" + ",".join(map(str, pids))
    status, output, complaint = await _execute(program, [*arguments, chosen])
    if status:
        # Some options, such as f, can't stand beside -q.
        status, output, complaint = await _execute(program, arguments)
    if status:
        raise InternalError(f"ps: {complaint.partition(chr(10))[0] or f'exit status {status}'}")
    return output


async def _execute(program: str, arguments: Sequence[str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise InternalError(f"ps: not done within {_TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace"), complaint.decode(errors="replace")

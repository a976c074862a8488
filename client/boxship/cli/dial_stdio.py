"""``boxship system dial-stdio``: the far end of an ``ssh://`` address."""

from __future__ import annotations

import os
import select

from boxship.cli.attached import write_all
from boxship.cli.command import Command, Context
from boxship.cli.flags import Options
from boxship.http.dial import dial

_CHUNK = 65536


class DialStdioOptions(Options):
    """``system dial-stdio`` has no flags."""


def _run(context: Context, _options: DialStdioOptions, _arguments: list[str]) -> int:
    """Join standard input and output with the daemon's socket until the daemon closes it."""
    with dial(context.api.address) as stream:
        poller = select.poll()
        poller.register(0, select.POLLIN)
        poller.register(stream.fileno(), select.POLLIN)
        waiting = bytearray()
        finished = False
        while True:
            poller.modify(stream.fileno(), select.POLLIN | (select.POLLOUT if waiting else 0))
            for fd, events in poller.poll():
                if fd == 0:
                    data = os.read(0, _CHUNK)
                    waiting += data
                    if not data:
                        finished = True
                    if finished or len(waiting) > _CHUNK:
                        poller.unregister(0)
                    continue
                if events & select.POLLOUT:
                    had_room = len(waiting) <= _CHUNK
                    with memoryview(waiting) as view:
                        sent = stream.send_now(view)
                    del waiting[:sent]
                    if not finished and not had_room and len(waiting) <= _CHUNK:
                        poller.register(0, select.POLLIN)
                if events & ~select.POLLOUT:
                    data = stream.receive()
                    if not data:
                        return 0
                    write_all(1, data)
            if finished and not waiting:
                stream.finish_sending()


DIAL_STDIO: Command[DialStdioOptions] = Command(
    "", "Proxy the stdio stream to the daemon connection", DialStdioOptions, _run, maximum=0
)

"""``boxship run``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from boxship.cli.command import Command, Context
from boxship.cli.container_flags import RunOptions
from boxship.cli.create import create
from boxship.errors import APIError, BoxshipError, CommandError, UsageError
from boxship.http.target import quote

if TYPE_CHECKING:
    from boxship.cli.attached import Exit

_FAILURE = 125


def start_failure(error: APIError) -> int:
    """The exit status for a program that couldn't be started, told from the daemon's message as Docker does."""
    message = str(error).lower()
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    if "permission denied" in message or "is a directory" in message:
        return 126
    return _FAILURE


def _check(options: RunOptions) -> bool:
    """Check what can be told from the flags alone; whether our standard input is to be attached."""
    import os

    if options.detach:
        if options.attach:
            raise UsageError("conflicting options: cannot specify both --attach and --detach")
        return False
    stdin = options.interactive or "stdin" in options.attach
    if options.tty and stdin and not os.isatty(0):
        raise UsageError("the input device is not a TTY")
    if options.detach_keys:
        from boxship.terminal.detach import parse_keys

        parse_keys(options.detach_keys)
    return stdin


def _run(context: Context, options: RunOptions, arguments: list[str]) -> int:
    stdin = _check(options)
    container = create(context, options, arguments, detached=options.detach, meanwhile=_nothing if options.detach else _import)
    if options.detach:
        # The container is there, whether or not it can be started.
        context.print(container)
        try:
            _start(context, container)
        except APIError as error:
            raise CommandError(f"Error response from daemon: {error}", start_failure(error)) from error
        return 0
    from boxship.cli.attached import Attached, Detached, Exit, SignalProxy, WindowFollower
    from boxship.streams import attach

    api = context.api
    streams = set(options.attach) or {"stdout", "stderr"}
    with ExitStack() as stack:
        if options.sig_proxy and not options.tty:
            stack.enter_context(SignalProxy(api, container))
        query = {
            "stream": True,
            "stdin": stdin or None,
            "stdout": "stdout" in streams or None,
            "stderr": "stderr" in streams or None,
            "detachKeys": options.detach_keys or None,
        }
        duplex, multiplexed = attach(api, container, query, tty=options.tty)
        attached = Attached(duplex, multiplexed=multiplexed, stdin=stdin, tty=options.tty, detach_keys=options.detach_keys)
        stack.enter_context(attached)
        waiting = Exit(api, container, removal=options.rm)
        window = stack.enter_context(WindowFollower(api, container, 1)) if options.tty else None
        if options.tty and stdin:
            from boxship.terminal.raw import RawMode

            stack.enter_context(RawMode(0, resumed=window.apply if window else None))
        try:
            _start(context, container)
        except APIError as error:
            stack.close()
            if options.rm:
                _await_removal(waiting)
            raise CommandError(f"Error response from daemon: {error}", start_failure(error)) from error
        if window is not None:
            window.apply()
        try:
            attached.run()
        except Detached:
            return 0
        return waiting.status()


def _nothing() -> None:
    """A detached container needs none of the modules for attaching."""


def _import() -> None:
    """Import what attaching needs while the daemon creates the container."""
    import boxship.cli.attached
    import boxship.websocket  # noqa: F401


def _await_removal(waiting: Exit) -> None:
    try:
        waiting.status()
    except BoxshipError:
        # The failure to start is what matters; the removal was only waited for.
        return


def _start(context: Context, container: str) -> None:
    context.api.call("POST", f"/containers/{quote(container)}/start")


RUN: Command[RunOptions] = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    RunOptions,
    _run,
    minimum=1,
    interspersed=False,
    failure=_FAILURE,
    prefix=True,
)

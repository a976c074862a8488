"""``boxship attach``."""

from __future__ import annotations

import os
from contextlib import ExitStack

from boxship.cli.attached import DETACHED, Attached, Detached, Exit, SignalProxy
from boxship.cli.command import Command, Context
from boxship.cli.flags import Options, Switch, Text
from boxship.cli.start import enter_terminal
from boxship.errors import CommandError
from boxship.http.target import quote
from boxship.streams import attach


class AttachOptions(Options):
    """The flags of ``attach``."""

    detach_keys = Text("Override the key sequence for detaching a container")
    no_stdin = Switch("Do not attach STDIN")
    sig_proxy = Switch("Proxy all received signals to the process", default=True, shown="true")


def _run(context: Context, options: AttachOptions, arguments: list[str]) -> int:
    api = context.api
    about = api.call("GET", f"/containers/{quote(arguments[0])}/json")
    state, container = about["State"], about["Id"]
    if not state["Running"]:
        raise CommandError("cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandError("cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandError("cannot attach to a restarting container, wait until it is running")
    tty = bool(about["Config"]["Tty"])
    stdin = not options.no_stdin and bool(about["Config"]["OpenStdin"])
    if tty and stdin and not os.isatty(0):
        raise CommandError("the input device is not a TTY")
    with ExitStack() as stack:
        if options.sig_proxy and not tty:
            stack.enter_context(SignalProxy(api, container))
        waiting = Exit(api, container, removal=False, running=True)
        query = {
            "stream": True,
            "stdin": stdin or None,
            "stdout": True,
            "stderr": True,
            "detachKeys": options.detach_keys or None,
        }
        duplex, multiplexed = attach(api, container, query, tty=tty)
        attached = Attached(duplex, multiplexed=multiplexed, stdin=stdin, tty=tty, detach_keys=options.detach_keys)
        stack.enter_context(attached)
        if window := enter_terminal(stack, context, container, tty=tty, stdin=stdin):
            window.apply()
        try:
            attached.run()
        except Detached:
            raise CommandError(DETACHED) from None
        return waiting.status()


ATTACH: Command[AttachOptions] = Command(
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    AttachOptions,
    _run,
    minimum=1,
    maximum=1,
)

"""A small fork server for tests: starts containers through ``prepare`` and ``spawn`` as the runtime's builder does.

Reads one line of JSON a container from stdin and writes lines of JSON to stdout: ``ready`` or ``failed``, then ``exited``.
Runs as a program of its own, since the process that clones must have a single thread.
"""

import base64
import json
import os
import sys

import msgspec
from boxrun.container.prepare import prepare, prewarm
from boxrun.container.spawn import spawn
from boxrun.container.spec import Spec
from boxrun.errors import StartFault


class Group:
    """A cgroup that leaves the child where it is, or puts it into one cgroup2 directory."""

    def __init__(self, fd):
        self.fd = fd
        self.join_fds = []


def tell(**message):
    os.write(1, json.dumps(message).encode() + b"\n")


def build(request):
    spec = msgspec.json.decode(request["spec"], type=Spec)
    joins = {kind: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for kind, path in request["joins"].items()}
    group = Group(os.open(request["cgroup"], os.O_DIRECTORY | os.O_CLOEXEC) if request["cgroup"] else None)
    stdio = None
    if not spec.process.terminal:
        output = os.open(request["output"], os.O_WRONLY | os.O_CLOEXEC)
        stdio = (os.open(request["stdin"], os.O_RDONLY | os.O_CLOEXEC), output, output)
    exec(request["before"], {"os": os})
    try:
        spawned = spawn(prepare(spec, joins, group, base64.b64decode(request["seccomp"])), stdio)
        spawned.ready()
    except StartFault as fault:
        tell(
            event="failed",
            kind=type(fault).__name__,
            step=fault.step,
            errno=fault.errno,
            message=fault.message,
            exit_code=fault.exit_code,
        )
        return
    tell(event="ready", pid=spawned.pid, warnings=spawned.warnings, fds=len(os.listdir("/proc/self/fd")))
    if spawned.console_fd is not None:
        copy_terminal(spawned.console_fd, request)
    status = os.waitpid(spawned.pid, 0)[1]
    tell(event="exited", code=os.waitstatus_to_exitcode(status))


def copy_terminal(console_fd, request):
    """Copy what comes out; write the input once the text to wait for has come."""
    with open(request["stdin"], "rb") as file:
        waiting = file.read()
    seen = b""
    with open(request["output"], "wb", buffering=0) as output:
        while True:
            if waiting and request["expect"].encode() in seen:
                os.write(console_fd, waiting)
                waiting = b""
            try:
                chunk = os.read(console_fd, 65536)
            except OSError:
                return
            output.write(chunk)
            seen += chunk


def main():
    prewarm()
    for line in sys.stdin:
        if os.fork() == 0:
            try:
                build(json.loads(line))
                os._exit(0)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        os.wait()


main()

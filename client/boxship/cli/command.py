"""What a command is, and what it is given to do its work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from boxship.cli.flags import Absent, Items, Options, Switch, Text
from boxship.errors import UsageError

if TYPE_CHECKING:
    from boxship.api import API
    from boxship.http.dial import TLSFiles

O = TypeVar("O", bound=Options)  # noqa: E741 - the one type variable here


class GlobalOptions(Options):
    """Flags that stand before the command."""

    config = Text("Location of client config files", shown="~/.docker")
    context = Absent("Name of the context to use to connect to the daemon", "it has no contexts; use --host", short="c")
    debug = Switch("Show where in the program an error came from", short="D")
    host = Items("Daemon socket to connect to", short="H")
    log_level = Absent("Set the logging level", "it logs nothing; use --debug", short="l")
    tls = Switch("Use TLS; implied by --tlsverify")
    tlscacert = Text("Trust certs signed only by this CA", shown="~/.docker/ca.pem")
    tlscert = Text("Path to TLS certificate file", shown="~/.docker/cert.pem")
    tlskey = Text("Path to TLS key file", shown="~/.docker/key.pem")
    tlsverify = Switch("Use TLS and verify the remote")
    version = Switch("Print version information and quit", short="v")


class Context:
    """What a command works with.

    Args:
        options: the global flags.
        path: the command as it was called: ``boxship container ls``.
    """

    def __init__(self, options: GlobalOptions, path: str = "boxship") -> None:
        self.options = options
        self.path = path
        self._api: API | None = None

    @property
    def api(self) -> API:
        """The daemon, connected to when first used.

        Raises:
            InvalidAddress: its address can't be understood.
        """
        if self._api is None:
            from boxship.api import API

            self._api = API(self.host, self.tls_files())
        return self._api

    @property
    def host(self) -> str | None:
        """The daemon's address on the command line, None where there is none.

        Raises:
            UsageError: there are several.
        """
        hosts = self.options.host
        if len(hosts) > 1:
            raise UsageError("specify only one -H")
        return hosts[0] if hosts else None

    def tls_files(self) -> TLSFiles | None:
        """How to speak TLS over ``tcp://``, None for plain text."""
        import os

        options, env = self.options, os.environ
        verify = options.tlsverify or (bool(env.get("DOCKER_TLS_VERIFY")) and not options.given("tlsverify"))
        if not (verify or options.tls):
            return None
        from boxship.http.dial import TLSFiles

        directory = env.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
        return TLSFiles(
            verify=verify,
            ca=options.tlscacert or os.path.join(directory, "ca.pem"),
            certificate=options.tlscert or os.path.join(directory, "cert.pem"),
            key=options.tlskey or os.path.join(directory, "key.pem"),
        )

    def close(self) -> None:
        """Close the connections to the daemon."""
        if self._api is not None:
            self._api.close()

    def print(self, text: str, end: str = "\n") -> None:
        """Write to standard output."""
        sys.stdout.write(text + end)

    def flush(self) -> None:
        """Send standard output on its way, before something writes to its descriptor."""
        sys.stdout.flush()

    def warn(self, text: str) -> None:
        """Write a line to standard error, after what standard output holds."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class Command(Generic[O]):
    """A command.

    Args:
        usage: its arguments: ``[OPTIONS] CONTAINER [CONTAINER...]``.
        summary: what it does, one line.
        options: its flags.
        run: does it; its result is the exit status.
        minimum: the least number of arguments.
        maximum: the greatest, None for any.
        interspersed: whether flags may follow arguments.
        failure: the exit status when the daemon refuses or a value is wrong.
        prefix: whether errors are preceded by the program's name, as Docker does for ``run``.
        description: further help.
    """

    def __init__(
        self,
        usage: str,
        summary: str,
        options: type[O],
        run: Callable[[Context, O, list[str]], int],
        *,
        minimum: int = 0,
        maximum: int | None = None,
        interspersed: bool = True,
        failure: int = 1,
        prefix: bool = False,
        description: str = "",
    ) -> None:
        self.usage = usage
        self.summary = summary
        self.options = options
        self.run = run
        self.minimum = minimum
        self.maximum = maximum
        self.interspersed = interspersed
        self.failure = failure
        self.prefix = prefix
        self.description = description

    def check_arguments(self, path: str, arguments: list[str]) -> None:
        """Check how many arguments there are.

        Raises:
            UsageError: too few or too many.
        """
        count = len(arguments)
        if self.minimum <= count and (self.maximum is None or count <= self.maximum):
            return
        if self.maximum == 0:
            need = "accepts no arguments"
        else:
            bound = self.minimum
            if self.minimum == self.maximum:
                need = f"requires {bound}"
            elif count < self.minimum:
                need = f"requires at least {bound}"
            else:
                bound = self.maximum or 0
                need = f"requires at most {bound}"
            need += " argument" + ("" if bound == 1 else "s")
        raise UsageError(f"boxship: '{path}' {need}\n\nUsage:  {path} {self.usage}\n\nRun '{path} --help' for more information")

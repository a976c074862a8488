"""The ``boxshipd`` program: flags and configuration file in, a running daemon out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from boxshipd import __version__
from boxshipd.command_line import CommandLine, help_text
from boxshipd.config import Config, ConfigError, load
from boxshipd.errors import DaemonError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the daemon; ends the process with its exit code."""
    try:
        line = CommandLine(sys.argv[1:] if arguments is None else arguments)
        if line.help or line.version:
            sys.stdout.write(help_text() if line.help else f"Boxship version {__version__}\n")
            sys.exit(0)
        config = load(line.flags, line.config_file)
        if config.signature_policy:
            from boxshipd.trust.verifier import open_trust

            open_trust(config.signature_policy)
    except (ConfigError, DaemonError) as error:
        sys.stderr.write(f"boxshipd: {error}\n")
        sys.exit(1)
    if line.validate:
        sys.stdout.write("configuration OK\n")
        sys.exit(0)
    sys.exit(_run(config, line))


def _run(config: Config, line: CommandLine) -> int:
    if not sys.flags.safe_path:
        # What is imported later isn't to come from where the program lies, or was started.
        del sys.path[0]
    with _no_authorities():
        from boxshipd.daemon import run
    return run(config, line.flags, line.config_file)


@contextlib.contextmanager
def _no_authorities() -> Iterator[None]:
    """Let OpenSSL find no certificate authorities meanwhile.

    aiohttp, as it is imported, makes a TLS context with all of the machine's, which takes a tenth of the daemon's start.
    Nobody here uses that one: registries get contexts of their own (``boxshipd.registry.certificates``).
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


if __name__ == "__main__":
    main()

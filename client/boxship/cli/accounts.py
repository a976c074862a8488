"""Registry accounts as commands use them: the header of a request, prompts, and notes to the user."""

from __future__ import annotations

import os
import sys

from boxship.cli.command import Context
from boxship.credentials.account import HUB_KEY, Account, encoded
from boxship.credentials.keeper import Keeper
from boxship.errors import CommandError, CredentialError, InvalidConfig

_REGISTER = (
    "Log in with your Docker ID or email address to push and pull images from Docker Hub. "
    "If you don't have a Docker ID, head over to https://hub.docker.com/ to create one."
)
_TOKENS = (
    "You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better security "
    "and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/"
)


def keeper(context: Context) -> Keeper:
    """Where the user's accounts are kept.

    Raises:
        InvalidConfig: the configuration file is damaged.
    """
    return Keeper(context.options.config)


def registry_header(context: Context, domain: str) -> tuple[str, str]:
    """The header that shows a registry who is asking; an empty account where nobody logged in.

    A configuration that can't be read, or a helper that fails, is told and costs the account only, as with Docker: what is
    public can be had without one.
    """
    try:
        account = keeper(context).of_domain(domain)
    except InvalidConfig as error:
        context.warn(f"WARNING: Error {error}")
        account = Account()
    except CredentialError as error:
        context.warn(f"WARNING: {error}")
        account = Account()
    return account.header()


def registry_config_header(context: Context) -> tuple[str, str]:
    """The header with every account that the user has, by registry: a build's daemon alone will know which ones it needs.

    What can't be read is told and left out, as in ``registry_header``.
    """
    accounts: dict[str, dict[str, str]] = {}
    try:
        known = keeper(context)
        for server in known.servers():
            try:
                accounts[server] = known.account(server).body()
            except CredentialError as error:
                context.warn(f"WARNING: {error}")
    except InvalidConfig as error:
        context.warn(f"WARNING: Error {error}")
    return "X-Registry-Config", encoded(accounts)


def ask(server: str, username: str, password: str, default_username: str) -> Account:
    """Ask for what wasn't given of an account.

    Args:
        server: what the account is kept under.
        username: the name, empty to ask for it.
        password: the password, empty to ask for it.
        default_username: the name that an empty answer means.

    Raises:
        CommandError: the answer is empty, or there is nobody to ask.
    """
    if (not username or not password) and not os.isatty(0):
        raise CommandError("Error: Cannot perform an interactive login from a non TTY device")
    if not username:
        if server == HUB_KEY:
            _say(f"{_REGISTER}\n{_TOKENS}\n\n")
        shown = f" ({default_username})" if default_username else ""
        username = _line(f"Username{shown}: ") or default_username
        if not username:
            raise CommandError("Error: Non-null Username Required")
    if not password:
        if server == HUB_KEY:
            note(
                "A Personal Access Token (PAT) can be used instead.\nTo create a PAT, visit https://app.docker.com/settings\n\n"
            )
        password = _secret("Password: ")
        if not password:
            raise CommandError("Error: Password Required")
    return Account(server, username, password)


def note(text: str, fd: int = 2) -> None:
    """Write a note to the user, coloured where a terminal shows it."""
    if os.isatty(fd):
        head, indent = "\n\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m", " " * 9
        body = f"\n{indent}".join(f"\x1b[3m{line}\x1b[0m" for line in text.split("\n"))
    else:
        head, indent = "\n Info -> ", " " * 9
        body = f"\n{indent}".join(text.split("\n"))
    (sys.stdout if fd == 1 else sys.stderr).write(f"{head}{body}\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _line(prompt: str) -> str:
    _say(prompt)
    answer = sys.stdin.readline()
    if not answer:
        raise CommandError("")
    return answer.strip()


def _secret(prompt: str) -> str:
    """A line typed without being shown; the terminal is restored however that ends."""
    import termios

    from boxship.terminal.raw import NoEcho

    sys.stderr.flush()
    try:
        with NoEcho(0):
            return _line(prompt)
    except termios.error as error:
        raise CommandError(f"turning the terminal's echo off: {error.args[1]}") from error
    finally:
        _say("\n")

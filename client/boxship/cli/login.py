"""``boxship login`` and ``logout``."""

from __future__ import annotations

import sys

from boxship.cli.accounts import ask, keeper, note
from boxship.cli.command import Command, Context
from boxship.cli.flags import Options, Switch, Text
from boxship.credentials.account import HUB_KEY, Account, hostname
from boxship.credentials.keeper import Keeper
from boxship.errors import APIError, CommandError, CredentialError, InvalidConfig, Unauthorized

_HUB_NAME = "docker.io"
_UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{path}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""


class LoginOptions(Options):
    """The flags of ``login``."""

    password = Text("Password or Personal Access Token (PAT)", short="p")
    password_stdin = Switch("Take the Password or Personal Access Token (PAT) from stdin")
    username = Text("Username", short="u")


def _login(context: Context, options: LoginOptions, arguments: list[str]) -> int:
    username, password = _given(context, options)
    address = arguments[0] if arguments else ""
    server = HUB_KEY if address in ("", _HUB_NAME) else hostname(address)
    kept = keeper(context)
    known = Account(server)
    if not username and not password:
        known = _known(context, kept, server)
        if known.username and known.password:
            answer = _with_known(context, known)
            if answer is not None:
                return _finish(context, kept, known, answer)
    account = ask(server, username, password, known.username)
    return _finish(context, kept, account, _authenticate(context, account))


def _given(context: Context, options: LoginOptions) -> tuple[str, str]:
    """The name and password of the command line.

    Raises:
        CommandError: they contradict each other.
    """
    if options.given("username") and not options.username.strip():
        raise CommandError("username is empty")
    if options.given("password") and options.password_stdin:
        raise CommandError("conflicting options: cannot specify both --password and --password-stdin")
    if options.password_stdin:
        if not options.username:
            raise CommandError("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
        if not password:
            raise CommandError("password is empty")
        return options.username.strip(), password
    if options.given("password"):
        if not options.password:
            raise CommandError("password is empty")
        context.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    return options.username.strip(), options.password


def _known(context: Context, kept: Keeper, server: str) -> Account:
    """The account that is kept already; a helper's failure only means that the user is asked."""
    try:
        return kept.account(server)._replace(server=server)
    except CredentialError as error:
        context.warn(f"WARNING: {error}")
        return Account(server)


def _with_known(context: Context, account: Account) -> dict[str, str] | None:
    """Try the account that is kept; None where the registry refuses it."""
    context.warn(f"Authenticating with existing credentials... [Username: {account.username}]")
    note("To login with a different account, run 'boxship logout' followed by 'boxship login'")
    context.warn("\n")
    try:
        return _authenticate(context, account)
    except Unauthorized:
        context.warn("Stored credentials invalid or expired")
    except APIError as error:
        context.warn(f"Login did not succeed, error: Error response from daemon: {error}")
    return None


def _authenticate(context: Context, account: Account) -> dict[str, str]:
    answer: dict[str, str] | None = context.api.call("POST", "/auth", None, account.body())
    return answer or {}


def _finish(context: Context, kept: Keeper, account: Account, answer: dict[str, str]) -> int:
    if token := answer.get("IdentityToken"):
        account = account._replace(password="", identity_token=token)
    try:
        unencrypted = kept.put(account)
    except (CredentialError, InvalidConfig) as error:
        raise CommandError(f"Error saving credentials: {error}") from error
    if unencrypted:
        context.warn(_UNENCRYPTED.format(path=kept.file.path))
    if status := answer.get("Status"):
        context.print(status)
    return 0


class LogoutOptions(Options):
    """``logout`` has no flags."""


def _logout(context: Context, _options: LogoutOptions, arguments: list[str]) -> int:
    server = arguments[0] if arguments else HUB_KEY
    host = server if server == HUB_KEY else hostname(server)
    # Older clients kept accounts under whole addresses.
    places = [server] if server == HUB_KEY else list(dict.fromkeys((server, host, f"http://{host}", f"https://{host}")))
    kept = keeper(context)
    context.print(f"Removing login credentials for {host}")
    failures = []
    for place in places:
        try:
            kept.erase(place)
        except (CredentialError, InvalidConfig) as error:
            failures.append(f"{place}: {error}")
    if len(failures) == len(places):
        context.warn("\n".join(["WARNING: could not erase credentials:", *failures]))
    return 0


LOGIN: Command[LoginOptions] = Command(
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry",
    LoginOptions,
    _login,
    maximum=1,
    description="Docker Hub where no server is named.",
)
LOGOUT: Command[LogoutOptions] = Command(
    "[SERVER]",
    "Log out from a registry",
    LogoutOptions,
    _logout,
    maximum=1,
    description="Docker Hub where no server is named.",
)

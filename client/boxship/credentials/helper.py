"""Programs that keep secrets: ``docker-credential-NAME``, spoken to as Docker does.

Source: github.com/docker/docker-credential-helpers, "Development": one word as argument, data on standard input and output.
"""

from __future__ import annotations

import json

from boxship.credentials.account import Account
from boxship.errors import CredentialError

_NOT_FOUND = ("credentials not found in native keychain",)
_TOKEN_USER = "<token>"  # noqa: S105 - the name under which tokens are kept, no secret
_PREFIX = "docker-credential-"


class Helper:
    """A program that keeps accounts.

    Args:
        name: what follows ``docker-credential-`` in its name.

    Raises:
        CredentialError: the name could be a path, which would run anything.
    """

    def __init__(self, name: str) -> None:
        if "/" in name or not name:
            raise CredentialError(f"invalid credential helper {name!r}: expected what follows {_PREFIX!r} in a program's name")
        self.program = _PREFIX + name

    def account(self, server: str) -> Account:
        """A registry's account; an empty one where it keeps none.

        Raises:
            CredentialError: the program can't be run or fails.
        """
        status, out = self._run("get", server, "getting")
        if status:
            if out in _NOT_FOUND:
                return Account()
            raise self._failure("getting", f"exit status {status}", out)
        try:
            found = json.loads(out)
            username, secret = str(found["Username"]), str(found["Secret"])
        except (ValueError, KeyError, TypeError) as error:
            # Not with its output, which may hold the secret.
            raise CredentialError(f"error getting credentials - {self.program} gave no JSON object of an account") from error
        if username == _TOKEN_USER:
            return Account(server, identity_token=secret)
        return Account(server, username, secret)

    def servers(self) -> list[str]:
        """What it keeps accounts under.

        Raises:
            CredentialError: the program can't be run or fails.
        """
        status, out = self._run("list", "", "listing")
        if status:
            raise self._failure("listing", f"exit status {status}", out)
        try:
            return [str(server) for server in dict(json.loads(out or "{}"))]
        except (ValueError, TypeError) as error:
            raise CredentialError(f"error listing credentials - {self.program} gave no JSON object of accounts") from error

    def put(self, account: Account) -> None:
        """Keep an account.

        Raises:
            CredentialError: the program can't be run or fails.
        """
        token = account.identity_token
        data = {
            "ServerURL": account.server,
            "Username": _TOKEN_USER if token else account.username,
            "Secret": token or account.password,
        }
        status, out = self._run("store", json.dumps(data), "storing")
        if status:
            raise self._failure("storing", f"exit status {status}", out)

    def erase(self, server: str) -> None:
        """Forget a registry's account.

        Raises:
            CredentialError: the program can't be run or fails.
        """
        status, out = self._run("erase", server, "erasing")
        if status:
            raise self._failure("erasing", f"exit status {status}", out)

    def _run(self, action: str, data: str, doing: str) -> tuple[int, str]:
        import subprocess

        try:
            ended = subprocess.run([self.program, action], input=data.encode(), stdout=subprocess.PIPE, check=False)
        except FileNotFoundError as error:
            raise self._failure(doing, f'exec: "{self.program}": executable file not found in $PATH', "") from error
        except OSError as error:
            raise self._failure(doing, f"exec: {self.program}: {(error.strerror or str(error)).lower()}", "") from error
        return ended.returncode, ended.stdout.decode("utf-8", "replace").strip()

    def _failure(self, doing: str, reason: str, out: str) -> CredentialError:
        return CredentialError(f"error {doing} credentials - err: {reason}, out: `{out}`")

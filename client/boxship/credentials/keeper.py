"""Whoever keeps a registry's account: the environment, a program, or the configuration file."""

from __future__ import annotations

import json
import os

from boxship.credentials.account import Account, key_of
from boxship.credentials.config_file import NAME, ConfigFile, decode, directory
from boxship.credentials.helper import Helper
from boxship.errors import InvalidConfig

_ENVIRONMENT = "DOCKER_AUTH_CONFIG"


class Keeper:
    """Where accounts are kept.

    Args:
        folder: the configuration's directory, empty for the default.

    Raises:
        InvalidConfig: the configuration file is damaged.
    """

    def __init__(self, folder: str = "") -> None:
        self.file = ConfigFile(os.path.join(folder or directory(), NAME))

    def account(self, server: str) -> Account:
        """The account kept under a registry's key (see ``key_of``); an empty one where there is none.

        Raises:
            CredentialError: a helper program failed.
            InvalidConfig: the account in the file is damaged.
        """
        if given := _from_environment(server):
            return given
        if name := self.file.helper(server):
            return Helper(name).account(server)
        return self.file.account(server)

    def servers(self) -> list[str]:
        """What accounts are kept under.

        Raises:
            CredentialError: a helper program failed.
            InvalidConfig: what the environment has is damaged.
        """
        return list(dict.fromkeys([*_servers_of_environment(), *self.file.servers, *self.file.helped, *self._of_store()]))

    def _of_store(self) -> list[str]:
        return Helper(self.file.store).servers() if self.file.store else []

    def of_domain(self, domain: str) -> Account:
        """The account at the registry of a reference's domain."""
        return self.account(key_of(domain))

    def put(self, account: Account) -> bool:
        """Keep an account; whether its password is now in a file, unencrypted.

        Raises:
            CredentialError: a helper program failed.
            InvalidConfig: the file can't be written.
        """
        if name := self.file.helper(account.server):
            Helper(name).put(account)
            # That there is an account is noted in the file, as Docker does; the secret isn't.
            self.file.put(Account(account.server))
            return False
        return self.file.put(account) and bool(account.password)

    def erase(self, server: str) -> None:
        """Forget an account.

        Raises:
            CredentialError: a helper program failed.
            InvalidConfig: the file can't be written.
        """
        if name := self.file.helper(server):
            Helper(name).erase(server)
        self.file.erase(server)


def _servers_of_environment() -> list[str]:
    text = os.environ.get(_ENVIRONMENT)
    if not text:
        return []
    try:
        return list(json.loads(text).get("auths") or {})
    except (AttributeError, TypeError):
        return []
    except ValueError as error:
        raise InvalidConfig(f"{_ENVIRONMENT} is not JSON: {error}") from error


def _from_environment(server: str) -> Account | None:
    """An account out of ``DOCKER_AUTH_CONFIG``, which continuous integration sets to what a configuration file would hold."""
    text = os.environ.get(_ENVIRONMENT)
    if not text:
        return None
    try:
        entry = json.loads(text)["auths"][server]
    except (KeyError, TypeError):
        return None
    except ValueError as error:
        raise InvalidConfig(f"{_ENVIRONMENT} is not JSON: {error}") from error
    return decode(_ENVIRONMENT, server, entry)

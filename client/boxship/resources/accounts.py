"""Registry accounts in the SDK."""

from __future__ import annotations

from boxship.credentials.account import Account, key_of
from boxship.credentials.keeper import Keeper


class Accounts:
    """The accounts that pulls and pushes show to registries: those of this client's logins, then those of the command line's.

    Args:
        folder: the directory of the configuration file, empty for the command line's.
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._remembered: dict[str, Account] = {}

    def remember(self, account: Account) -> None:
        """Use an account from now on, in this client only."""
        self._remembered[account.server] = account

    def of_domain(self, domain: str) -> Account:
        """The account at the registry of a reference's domain; an empty one where there is none.

        Raises:
            InvalidConfig: the configuration file is damaged.
            CredentialError: a program that keeps accounts failed.
        """
        return self._remembered.get(key_of(domain)) or Keeper(self._folder).of_domain(domain)

"""``config.json``: read as it is, changed in one place, and everything else in it kept."""

from __future__ import annotations

import json
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Any

from boxship.credentials.account import Account, hostname
from boxship.errors import InvalidConfig

NAME = "config.json"


def directory(environment: Mapping[str, str] | None = None) -> str:
    """Where the client's configuration is: ``BOXSHIP_CONFIG``, else ``DOCKER_CONFIG``, else ``~/.docker``."""
    env = os.environ if environment is None else environment
    return env.get("BOXSHIP_CONFIG") or env.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


class ConfigFile:
    """The client's configuration file.

    Args:
        path: where it is; it need not exist.

    Raises:
        InvalidConfig: it can't be read or isn't what Docker writes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._values: dict[str, Any] = {}
        try:
            with open(path, "rb") as file:
                values = json.loads(file.read() or b"{}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise InvalidConfig(f"loading config file: open {path}: {(error.strerror or str(error)).lower()}") from error
        except ValueError as error:
            raise InvalidConfig(f"loading config file: {path}: {error}") from error
        if not isinstance(values, dict) or not isinstance(values.get("auths") or {}, dict):
            raise InvalidConfig(f"loading config file: {path}: it is not an object of settings")
        self._values = values

    def helper(self, server: str) -> str:
        """The name of the program that keeps a registry's account; empty where this file does."""
        helpers = self._values.get("credHelpers") or {}
        return str(helpers.get(server) or self._values.get("credsStore") or "")

    @property
    def servers(self) -> list[str]:
        """What it has accounts under."""
        return list(self._values.get("auths") or {})

    @property
    def helped(self) -> list[str]:
        """Whose accounts a program of their own keeps."""
        return list(self._values.get("credHelpers") or {})

    @property
    def store(self) -> str:
        """The name of the program that keeps all other accounts, empty for none."""
        return str(self._values.get("credsStore") or "")

    def account(self, server: str) -> Account:
        """A registry's account; an empty one where there is none.

        Raises:
            InvalidConfig: it isn't what Docker writes.
        """
        auths = self._values.get("auths") or {}
        if server in auths:
            return decode(f"loading config file: {self.path}", server, auths[server])
        # Old files have whole addresses where newer ones have hosts.
        for key, entry in auths.items():
            if hostname(key) == server:
                return decode(f"loading config file: {self.path}", key, entry)
        return Account()

    def put(self, account: Account) -> bool:
        """Store an account under its server; whether that changed the file.

        Raises:
            InvalidConfig: the file can't be written.
        """
        entry = dict((self._values.get("auths") or {}).get(account.server) or {})
        for name in ("auth", "username", "password", "identitytoken", "registrytoken"):
            entry.pop(name, None)
        if account.username or account.password:
            entry["auth"] = b2a_base64(f"{account.username}:{account.password}".encode(), newline=False).decode()
        if account.identity_token:
            entry["identitytoken"] = account.identity_token
        if account.registry_token:
            entry["registrytoken"] = account.registry_token
        if (self._values.get("auths") or {}).get(account.server) == entry:
            return False
        self._auths()[account.server] = entry
        self._save()
        return True

    def erase(self, server: str) -> None:
        """Forget a registry's account.

        Raises:
            InvalidConfig: the file can't be written.
        """
        if server in (self._values.get("auths") or {}):
            del self._auths()[server]
            self._save()

    def _auths(self) -> dict[str, Any]:
        """The accounts, to be changed; they come first in a new file, as Docker has them."""
        if not self._values.get("auths"):
            self._values = {"auths": {}, **{name: value for name, value in self._values.items() if name != "auths"}}
        auths: dict[str, Any] = self._values["auths"]
        return auths

    def _save(self) -> None:
        """Replace the file in one step; only its owner may read it, because of what is in it."""
        # A link stays one: what it leads to is replaced, whether that exists or not.
        target = os.path.realpath(self.path)
        partial = f"{target}.{os.getpid()}"
        data = json.dumps(self._values, indent="\t", ensure_ascii=False).encode("utf-8", "surrogateescape")
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    _keep_owner(target, fd)
                    os.fsync(fd)
                os.rename(partial, target)
            except BaseException:
                os.unlink(partial)
                raise
        except OSError as error:
            raise InvalidConfig(f"{self.path}: {(error.strerror or str(error)).lower()}") from error


def decode(place: str, server: str, entry: object) -> Account:
    """An entry of the accounts.

    Args:
        place: what the entry is of, for the error's message.
        server: what it is kept under.
        entry: its value.

    Raises:
        InvalidConfig: it isn't what Docker writes.
    """
    if not isinstance(entry, dict):
        raise InvalidConfig(f"{place}: the account of {server} is not an object")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            text = a2b_base64(str(encoded), strict_mode=True).decode()
        except ValueError as error:
            raise InvalidConfig(f"{place}: the account of {server}: {error}") from error
        username, colon, password = text.partition(":")
        if not colon or not username:
            raise InvalidConfig(f"{place}: invalid auth configuration file")
        password = password.strip("\0")
    token, registry_token = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    return Account(server, username, password, token, registry_token)


def _keep_owner(path: str, fd: int) -> None:
    """Give the file under ``fd`` the owner of the one it is to replace, where that is another."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        try:
            os.fchown(fd, status.st_uid, status.st_gid)
        except PermissionError:
            # Docker's client leaves it at that, too: the file then is the one's who wrote it.
            return

"""Whom TLS trusts: the system's CAs, and what ``certs.d`` has for a registry.

A directory named after the registry's host, with its port where that isn't the default one, may hold CAs (``*.crt``) and
client certificates (``*.cert``, each with its ``*.key``).
Source: docs.docker.com/engine/security/certificates; moby daemon/pkg/registry/registry.go (``loadTLSConfig``).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence

from boxshipd.registry.errors import RegistryError

_Files = tuple[tuple[str, int, int], ...]
"""Paths with their time of change and size, which tell whether they are to be read again."""


class Certificates:
    """The TLS contexts for registries, made when first needed and again when their files have changed.

    Args:
        directories: each with a directory per registry; the first that has the registry's counts.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = tuple(directories)
        self._contexts: dict[tuple[str, bool, _Files], ssl.SSLContext] = {}

    async def context(self, host: str, *, verify: bool = True, ca: Sequence[str] = (), sent_by: str = "") -> ssl.SSLContext:
        """The context for connections to ``host`` (with its port, unless that is the default one).

        Args:
            host: as it is written in the registry's name.
            verify: whether the registry has to show that it is who it says.
            ca: further CAs, as paths.
            sent_by: the registry that has redirected us there. Where ``host`` has no directory of its own, that registry's
                CAs count for it, as with Docker; its client certificates don't.

        Raises:
            RegistryError: its files can't be used.
        """
        return await asyncio.to_thread(self._context, host, verify, tuple(ca), sent_by)

    def _context(self, host: str, verify: bool, ca: tuple[str, ...], sent_by: str) -> ssl.SSLContext:
        files = self._files(host)
        if not files and sent_by:
            files = tuple(entry for entry in self._files(sent_by) if entry[0].endswith(".crt"))
        files += tuple(_entry(path) for path in ca)
        key = host if files else "", verify, files
        context = self._contexts.get(key)
        if context is None:
            context = _load([path for path, _, _ in files], ca, verify)
            self._contexts = {known: value for known, value in self._contexts.items() if known[:2] != key[:2]}
            self._contexts[key] = context
        return context

    def _files(self, host: str) -> _Files:
        if not host or "/" in host or host.startswith("."):
            return ()
        for directory in self._directories:
            path = os.path.join(directory, host)
            try:
                found = sorted(entry.path for entry in os.scandir(path) if entry.name.endswith((".crt", ".cert", ".key")))
                return tuple(map(_entry, found))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise RegistryError(f"reading certificates for registry {host} failed: {error}") from error
        return ()


def _entry(path: str) -> tuple[str, int, int]:
    try:
        info = os.stat(path)
    except OSError as error:
        raise RegistryError(f"certificate {path} can't be used: {error}") from error
    return path, info.st_mtime_ns, info.st_size


def _load(paths: Sequence[str], ca: Sequence[str], verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # From Python 3.13 on authorities must say what their key is for, which Docker's don't have to, nor do many of people's own.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in paths:
        try:
            if path in ca or path.endswith(".crt"):
                context.load_verify_locations(path)
            elif path.endswith(".cert"):
                key = path.removesuffix(".cert") + ".key"
                if key not in paths:
                    raise RegistryError(f"missing key {key} for client certificate {path}. CA certificates must end in .crt")
                context.load_cert_chain(path, key)
            elif path.removesuffix(".key") + ".cert" not in paths:
                raise RegistryError(f"missing client certificate {path.removesuffix('.key')}.cert for key {path}")
        except (ssl.SSLError, OSError) as error:
            raise RegistryError(f"certificate {path} can't be used: {error}") from error
    return context

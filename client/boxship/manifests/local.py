"""Lists that are being put together: a directory for each, with a file for each manifest, as Docker's client has them."""

from __future__ import annotations

import json
import os
import shutil

from boxship.archive.whole import replace_file
from boxship.errors import CommandError
from boxship.manifests.model import Manifest, of_document
from boxship.references import Reference

_SAFE = str.maketrans(":/", "-_")


class LocalLists:
    """The manifest lists of a user.

    Args:
        root: the directory that holds them.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def get(self, name: Reference, manifest: Reference) -> Manifest | None:
        """A manifest of a list; None where it has none of that name.

        Raises:
            CommandError: the file can't be read or understood.
        """
        return _read(self._path(name, manifest))

    def manifests(self, name: Reference) -> list[Manifest] | None:
        """A list's manifests, by the names of their files; None where there is no such list.

        Raises:
            CommandError: a file can't be read or understood.
        """
        directory = self._path(name)
        try:
            files = sorted(os.listdir(directory))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CommandError(f"open {directory}: {(error.strerror or str(error)).lower()}") from error
        return [found for file in files if (found := _read(os.path.join(directory, file))) is not None]

    def save(self, name: Reference, manifest: Reference, value: Manifest) -> None:
        """Put a manifest into a list, which comes to be with its first one.

        Raises:
            CommandError: it can't be written.
        """
        path = self._path(name, manifest)
        data = json.dumps(value.document(), separators=(",", ":"), ensure_ascii=False).encode()
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # Not beside it, where it would be taken for one of the list's.
            replace_file(path, [data], aside=self._root)
        except OSError as error:
            raise CommandError(f"open {path}: {(error.strerror or str(error)).lower()}") from error

    def remove(self, name: Reference) -> None:
        """Remove a list.

        Raises:
            CommandError: it can't be removed.
        """
        path = self._path(name)
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise CommandError(f"remove {path}: {(error.strerror or str(error)).lower()}") from error

    def _path(self, *names: Reference) -> str:
        return os.path.join(self._root, *(str(name).translate(_SAFE) for name in names))


def _read(path: str) -> Manifest | None:
    try:
        with open(path, "rb") as file:
            return of_document(json.loads(file.read()), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise CommandError(f"invalid manifest file {path}: {error}") from error

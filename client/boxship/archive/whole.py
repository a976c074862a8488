"""Files that appear under their names only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterable

from boxship.errors import CommandError


def replace_file(path: str, chunks: Iterable[bytes], *, aside: str = "") -> None:
    """Write a file that appears under its name, in place of what had it before, only when it is whole.

    Args:
        path: the file.
        chunks: what it is to hold.
        aside: the directory that it is written in, on the same file system; empty for its own.

    Raises:
        OSError: it can't be written; then nothing has changed.
    """
    partial = os.path.join(aside or os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        with open(partial, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
        os.replace(partial, path)
    except FileExistsError:
        # Another's.
        raise
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def write_file(path: str, chunks: Iterable[bytes], failure: str) -> None:
    """The same, or into a device or pipe of that name; ``failure`` begins the message where it can't be.

    Raises:
        CommandError: it can't be written.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as device:
                for chunk in chunks:
                    device.write(chunk)
        else:
            replace_file(path, chunks)
    except OSError as error:
        raise CommandError(f"{failure}: {path}: {(error.strerror or str(error)).lower()}") from error

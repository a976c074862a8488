"""Files that appear under their names only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator

from boxship.errors import CommandError


def write_file(path: str, chunks: Iterator[bytes], failure: str) -> None:
    """Write a file that appears under its name only when it is whole; ``failure`` begins the message where it can't be.

    Raises:
        CommandError: it can't be written.
    """
    partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as device:
                for chunk in chunks:
                    device.write(chunk)
            return
        try:
            with open(partial, "xb") as file:
                for chunk in chunks:
                    file.write(chunk)
            os.replace(partial, path)
        except BaseException:
            if os.path.exists(partial):
                os.unlink(partial)
            raise
    except OSError as error:
        raise CommandError(f"{failure}: {path}: {(error.strerror or str(error)).lower()}") from error

"""The exit record: how a container ended, kept where neither a crash nor a restart loses it."""

from __future__ import annotations

import errno
import os

import msgspec

from boxrun.shim.protocol import ExitRecord

FILE_NAME = "exit.json"

LOST_EXIT_CODE = 255
"""Of a program whose end nobody saw."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ExitRecord).decode


def write(state_dir: str, record: ExitRecord) -> None:
    """Make ``record`` durable: it survives a crash of the machine once this returns.

    Raises:
        OSError: the file system refused.
    """
    path = f"{state_dir}/{FILE_NAME}"
    temporary = f"{path}.new"
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            data = _encode(record)
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), temporary)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        os.fsync(directory)
    finally:
        os.close(directory)


def note(path: str, record: ExitRecord) -> None:
    """Write the record of an exec: it outlives every process of ours, and like the exec itself no crash of the machine.

    Raises:
        OSError: the file system refused.
    """
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = _encode(record)
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)


def noted(path: str, run: int) -> ExitRecord | None:
    """The record that ``note`` has written of this run; None where there is none."""
    return _load(path, run)


def read(state_dir: str, run: int) -> ExitRecord | None:
    """The record of this run of the container; None where there is none (one of an earlier run doesn't count)."""
    return _load(f"{state_dir}/{FILE_NAME}", run)


def _load(path: str, run: int) -> ExitRecord | None:
    try:
        with open(path, "rb") as file:
            record = _decode(file.read())
    except (OSError, msgspec.MsgspecError):
        return None
    return record if record.run == run else None


def remove(state_dir: str) -> None:
    """Remove the record, if there is one."""
    for name in (FILE_NAME, f"{FILE_NAME}.new"):
        try:
            os.unlink(f"{state_dir}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue

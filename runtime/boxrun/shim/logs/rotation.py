"""Rotating a log's files: the newest has the log's own name, older ones end in ``.1``, ``.2`` and so on, maybe compressed."""

from __future__ import annotations

import os
import struct
import zlib

GZIP_HEAD = struct.Struct("<4sIBBH2sHQ")
"""The head of a compressed log: magic, mtime, flags, system, then the extra field ``BX`` with the inode it was made from."""


def shift(path: str, keep: int, *, compressed: bool) -> None:
    """Move the file at ``path`` to ``.1`` and the older ones one further; past ``keep`` files in all they go.

    Raises:
        OSError: the disk refuses; some files may have moved.
    """
    if compressed:
        adopt_compressed(path, keep)
    for suffix in ("", ".gz"):
        _unlink_if_there(f"{path}.{keep - 1}{suffix}")
        for number in range(keep - 2, 0, -1):
            _rename_if_there(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
    os.rename(path, f"{path}.1")


def uncompressed(path: str, keep: int) -> dict[int, str]:
    """The older files that nobody has compressed yet: their inode numbers, the newest first, and names."""
    found = {}
    for number in range(1, keep):
        name = f"{path}.{number}"
        try:
            inode = os.stat(name).st_ino
        except FileNotFoundError:
            continue
        if not os.path.exists(f"{path}.gz-{inode}"):
            found[inode] = name
    return found


def compress_aside(path: str, inode: int, name: str) -> int:
    """Compress a file in a process of its own, so that the container's output goes on meanwhile; that process' number.

    The files may be rotated on while it runs, so it leaves its result under the file's inode number; only the writer,
    which alone rotates, gives it its name (``adopt_compressed``).

    Args:
        path: the log.
        inode: which of its files.
        name: what that is called now.

    Raises:
        OSError: no process can be had, or the file isn't there.
    """
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            # The container's pipes and its clients' sockets among them, whose end would otherwise wait for this process.
            os.dup2(fd, 3)
            os.closerange(4, 65536)
            _gzip(3, inode, f"{path}.tmp-{inode}")
            os.rename(f"{path}.tmp-{inode}", f"{path}.gz-{inode}")
            status = 0
        finally:
            os._exit(status)
    finally:
        os.close(fd)


def remove_strays(path: str, keep: int) -> None:
    """Remove compressed files whose originals were rotated away meanwhile, and begun ones; while nobody compresses."""
    directory, _, name = path.rpartition("/")
    kept = set()
    for number in range(1, keep):
        try:
            kept.add(f"{name}.gz-{os.stat(f'{path}.{number}').st_ino}")
        except FileNotFoundError:
            continue
    for entry in os.listdir(directory):
        if entry.startswith((f"{name}.gz-", f"{name}.tmp-")) and entry not in kept:
            _unlink_if_there(f"{directory}/{entry}")


def runs(pid: int) -> bool:
    """Whether a child still runs; reaps it if not."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def adopt_compressed(path: str, keep: int) -> None:
    """Put each finished compressed file in the place of the file it was made from."""
    for number in range(1, keep):
        try:
            inode = os.stat(f"{path}.{number}").st_ino
            os.rename(f"{path}.gz-{inode}", f"{path}.{number}.gz")
        except FileNotFoundError:
            continue
        os.unlink(f"{path}.{number}")


def _gzip(fd: int, inode: int, target: str) -> None:
    """Write a gzip member of ``fd``'s content, with the file's inode number in the header's extra field.

    A follower that reads on after a rotation knows files by inode number; the field tells it that this is one it has read.
    Source: RFC 1952, section 2.3.1.1; the subfield id is ours.
    """
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    _write_all(out, GZIP_HEAD.pack(b"\x1f\x8b\x08\x04", 0, 0, 255, 12, b"BX", 8, inode))
    packer, checksum, size = zlib.compressobj(1, zlib.DEFLATED, -15), 0, 0
    while chunk := os.read(fd, 1 << 18):
        checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
        _write_all(out, packer.compress(chunk))
    _write_all(out, packer.flush() + struct.pack("<II", checksum, size & 0xFFFFFFFF))
    os.close(out)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _rename_if_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass

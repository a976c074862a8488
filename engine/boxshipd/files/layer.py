"""A container's own layer as an archive: what it has written, with whiteouts as image layers have them.

The same files give the same bytes. Source: OCI image specification, layer.md; moby pkg/archive/archive_linux.go.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from boxship.archive import tar_writer

from boxshipd.errors import InternalError
from boxshipd.files.changes import Lowers, is_opaque, refuse_references
from boxshipd.files.ids import Owners
from boxshipd.files.pack import Packer, Walk, read_xattrs
from boxshipd.images.unpack.tree import is_whiteout


def write_layer(
    upper: str, layers: Sequence[str], owners: Owners, check: Callable[[], None], packer: Packer | None = None
) -> Iterator[bytes]:
    """The layer's members, in the order of their names; nothing where the container has written nothing.

    Args:
        upper: the container's own directory.
        layers: the directories below, topmost first.
        owners: how owners are shown.
        check: called for each member; it may raise to end the work.
        packer: writes them, where not everything is to be as the files have it, or what it has counted is wanted.
    """
    top = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        walk = Walk(top)
        try:
            with Lowers(layers) as lowers:
                packer = packer or Packer(owners, check)
                for own, path in walk:
                    check()
                    try:
                        yield from _member(own, path, walk, lowers, packer)
                    except OSError as error:
                        raise InternalError(f"read /{os.fsdecode(path)}: {os.strerror(error.errno or 0)}") from error
        finally:
            walk.close()
    finally:
        os.close(top)


def _member(own: int, path: bytes, walk: Walk, lowers: Lowers, packer: Packer) -> Iterator[bytes]:
    status = os.fstat(own)
    if is_whiteout(status):
        yield tar_writer.header(tar_writer.FILE, _hidden(path, b".wh."), mode=0o600)
    elif stat.S_ISDIR(status.st_mode):
        opened = walk.enter()
        refuse_references(opened, path)
        yield packer.header(tar_writer.DIRECTORY, path + b"/", status, xattrs=read_xattrs(opened))
        # The kernel marks new directories as well, where there is nothing to hide.
        if is_opaque(opened) and lowers.find(path) is not None:
            yield tar_writer.header(tar_writer.FILE, path + b"/.wh..wh..opq", mode=0o600)
    else:
        if stat.S_ISREG(status.st_mode):
            refuse_references(f"/proc/self/fd/{own}", path)
        yield from packer.member(own, status, path)


def _hidden(path: bytes, prefix: bytes) -> bytes:
    above, slash, name = path.rpartition(b"/")
    return above + slash + prefix + name

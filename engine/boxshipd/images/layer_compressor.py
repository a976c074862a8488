"""A layer's archive on its way to being a blob: hashed, compressed and written by a thread of its own.

All three let go of the interpreter's lock, so that they go on beside whoever makes the archive.
"""

from __future__ import annotations

import hashlib
import threading
from queue import Queue
from types import TracebackType
from typing import Self

from isal import isal_zlib

from boxshipd.images.content import BlobWriter

_GZIP_WINDOW = 31
_LEVEL = 1
_AHEAD = 8


class LayerCompressor:
    """Writes an archive, compressed, to a blob. ``write`` all of it, then ``finish``.

    Args:
        writer: the blob; nobody else may write to it meanwhile.
    """

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self._hash = hashlib.sha256()
        self._queue: Queue[bytes] = Queue(_AHEAD)
        self._error: BaseException | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="layer-compressor", daemon=True)
        self._thread.start()

    def write(self, piece: bytes) -> None:
        """Append to the archive.

        Raises:
            OSError: what came before couldn't be written.
        """
        if self._error is not None:
            raise self._error
        if piece:
            self._queue.put(piece)

    def finish(self) -> str:
        """Wait until all is written; the digest of the archive, uncompressed.

        Raises:
            OSError: it couldn't be written.
        """
        self._queue.put(b"")
        self._thread.join()
        if self._error is not None:
            raise self._error
        return f"sha256:{self._hash.hexdigest()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._given_up = True
        if self._thread.is_alive():
            self._queue.put(b"")
            self._thread.join()

    def _run(self) -> None:
        compressor = isal_zlib.compressobj(level=_LEVEL, wbits=_GZIP_WINDOW)
        while piece := self._queue.get():
            # What is waiting is taken all the same: who writes mustn't be stuck.
            if self._error is None and not self._given_up:
                self._step(compressor, piece)
        if self._error is None and not self._given_up:
            self._step(compressor, b"")

    def _step(self, compressor: isal_zlib.Compress, piece: bytes) -> None:
        try:
            self._hash.update(piece)
            self._writer.write(compressor.compress(piece) if piece else compressor.flush())
        except BaseException as error:  # noqa: BLE001 - it is raised where the archive is made
            self._error = error

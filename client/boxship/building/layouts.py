"""OCI layouts as build contexts: which image a reference means, and that image as an archive.

Source: buildx build/opt.go (loadInputs, resolveDigest); OCI image specification, image-layout.md.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

from boxship.archive import tar_writer
from boxship.errors import CommandError

SCHEME = "oci-layout://"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20
_LARGEST_DOCUMENT = 4 << 20
_NESTED = 4


class Layout:
    """One image of a layout.

    Args:
        reference: ``oci-layout://directory[:tag][@digest]``; without a tag, ``latest``, or else the only image there is.

    Raises:
        CommandError: there is no such layout, or no such image in it.
    """

    def __init__(self, reference: str) -> None:
        place, at, digest = reference.removeprefix(SCHEME).partition("@")
        self._directory, _, tag = place.partition(":")
        if at and not _DIGEST.fullmatch(digest):
            raise CommandError(f"invalid context {reference}: {digest} is not a digest")
        manifests = self._read("index.json").get("manifests") or []
        self._top = self._found(manifests, tag or "latest", digest)
        # What the daemon isn't sent it can't take: an index may list more than is there.
        self._blobs = list(dict.fromkeys(self._below(self._top, 0)))

    def chunks(self) -> Iterator[bytes]:
        """An archive of that image alone, in all its platforms that are there."""
        index = {"schemaVersion": 2, "manifests": [self._top]}
        for name, data in (("oci-layout", _LAYOUT), ("index.json", json.dumps(index).encode())):
            yield tar_writer.header(tar_writer.FILE, name.encode(), mode=0o644, size=len(data))
            yield data + tar_writer.padding(len(data))
        for digest in self._blobs:
            yield from self._blob(digest)
        yield tar_writer.END

    def _found(self, manifests: list[dict[str, Any]], tag: str, digest: str) -> dict[str, Any]:
        if digest:
            listed = [each for each in manifests if each.get("digest") == digest]
            # It may lie below an index, and nothing but itself says what it is.
            return listed[0] if listed else self._described(digest)
        for each in manifests:
            annotations = each.get("annotations") or {}
            if tag == annotations.get(_NAME) or annotations.get(_FULL_NAME, "").endswith(f":{tag}"):
                return each
        if len(manifests) != 1:
            raise CommandError(f"OCI layout {self._directory}: failed to resolve digest: no image is tagged {tag}")
        return manifests[0]

    def _described(self, digest: str) -> dict[str, Any]:
        document = self._read(_path(digest))
        size = os.path.getsize(os.path.join(self._directory, _path(digest)))
        kind = "index" if "manifests" in document else "manifest"
        media_type = document.get("mediaType") or f"application/vnd.oci.image.{kind}.v1+json"
        return {"mediaType": media_type, "digest": digest, "size": size}

    def _below(self, descriptor: dict[str, Any], depth: int) -> Iterator[str]:
        """The digests of a manifest, or of an index, and of all that belongs to it and is there."""
        digest = str(descriptor.get("digest"))
        if depth > _NESTED or not _DIGEST.fullmatch(digest):
            raise CommandError(f"OCI layout {self._directory}: it lists {digest}, which can't be")
        if not os.path.exists(os.path.join(self._directory, _path(digest))):
            if not depth:
                raise CommandError(f"OCI layout {self._directory}: there is no {digest}")
            return
        yield digest
        document = self._read(_path(digest))
        for each in document.get("manifests") or ():
            yield from self._below(each, depth + 1)
        for each in (document.get("config"), *(document.get("layers") or ())):
            named = str((each or {}).get("digest"))
            if _DIGEST.fullmatch(named) and os.path.exists(os.path.join(self._directory, _path(named))):
                yield named

    def _read(self, name: str) -> dict[str, Any]:
        path = os.path.join(self._directory, name)
        try:
            with open(path, "rb") as file:
                document = json.loads(file.read(_LARGEST_DOCUMENT))
        except OSError as error:
            raise CommandError(f"OCI layout: open {path}: {(error.strerror or str(error)).lower()}") from error
        except ValueError as error:
            raise CommandError(f"OCI layout: {path}: {error}") from error
        if not isinstance(document, dict):
            raise CommandError(f"OCI layout: {path}: it isn't an object")
        return document

    def _blob(self, digest: str) -> Iterator[bytes]:
        with open(os.path.join(self._directory, _path(digest)), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            yield tar_writer.header(tar_writer.FILE, _path(digest).encode(), mode=0o644, size=size)
            left = size
            while left:
                piece = file.read(min(_CHUNK, left))
                if not piece:
                    raise CommandError(f"OCI layout {self._directory}: {digest} has become shorter")
                left -= len(piece)
                yield piece
            yield tar_writer.padding(size)


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"

"""Digests: the algorithms we take, and how they are written.

Source: OCI image specification, descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from boxshipd.errors import InvalidParameter

_HEX = {"sha256": re.compile(r"[a-f0-9]{64}"), "sha512": re.compile(r"[a-f0-9]{128}")}


class Digest(NamedTuple):
    """An algorithm's name and a checksum in hexadecimal."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse_digest(text: str) -> Digest:
    """Take a digest apart. What this lets pass is safe as a part of a path.

    Raises:
        InvalidParameter: it isn't a digest of a known algorithm.
    """
    algorithm, colon, checksum = text.partition(":")
    if not colon:
        raise InvalidParameter(f"invalid checksum digest format: {text!r}")
    pattern = _HEX.get(algorithm)
    if pattern is None:
        raise InvalidParameter(f"unsupported digest algorithm: {algorithm!r}")
    if not pattern.fullmatch(checksum):
        raise InvalidParameter(f"invalid checksum digest length: {text!r}")
    return Digest(algorithm, checksum)


def sha256(data: bytes) -> str:
    """The digest of ``data``, written ``sha256:…``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The chain id of each layer: the digest of it and all those below it.

    Source: OCI image specification, config.md, "Layer ChainID".
    """
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(sha256(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain

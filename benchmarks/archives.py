"""Images to load, pull and push: made anew for each round, so that no engine has seen any of their layers.

Nothing is deleted between rounds: on some file systems creating files right after mass deletes is many times slower.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of image.

    Attributes:
        name: what it is called in the tables.
        layers: writes each layer's archive to the path given, for a seed that makes it unlike any other.
    """

    name: str
    layers: Callable[[Path, int], list[Path]]


@dataclass(frozen=True, slots=True)
class Made:
    """One image made.

    Attributes:
        name: its name and tag.
        archive: a docker-archive of it, its layers uncompressed as ``docker save`` writes them.
        layers: its layers, uncompressed archives.
        config: its configuration.
    """

    name: str
    archive: Path
    layers: tuple[Path, ...]
    config: bytes


def _member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.mtime = 1_700_000_000
    return info


def _files(path: Path, top: str, count: int, seed: int, sizes: tuple[int, int]) -> Path:
    """A layer of small files, half text and half noise, a hundred to a directory."""
    choose = random.Random(f"{seed} {top}")
    noise = choose.randbytes(1 << 20)
    text = b"".join(b"%d some text such as programs have\n" % choose.randrange(1000) for _ in range(30_000))
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(_member(top, kind=tarfile.DIRTYPE))
        for number in range(count):
            if number % 100 == 0:
                tar.addfile(_member(f"{top}/{number // 100:04}", kind=tarfile.DIRTYPE))
            length = choose.randrange(*sizes)
            source = text if number % 2 else noise
            begin = choose.randrange(len(source) - length)
            tar.addfile(_member(f"{top}/{number // 100:04}/{number}", length), io.BytesIO(source[begin : begin + length]))
    return path


def _small_files(home: Path, seed: int) -> list[Path]:
    return [_files(home / "layer-0.tar", "files", 20_000, seed, (200, 6000))]


class _Mixed(io.RawIOBase):
    """A file of pieces that can't be compressed and pieces that can, by turns of a MiB."""

    def __init__(self, length: int, seed: int) -> None:
        self._left = length
        self._choose = random.Random(seed)
        self._turn = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._left)
        self._turn += 1
        self._left -= size
        if self._turn % 2:
            return self._choose.randbytes(size)
        line = b"%d text that comes again and again\n" % self._choose.randrange(1 << 30)
        return (line * (size // len(line) + 1))[:size]


def _one_big(home: Path, seed: int) -> list[Path]:
    path = home / "layer-0.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, copybufsize=MIB) as tar:
        tar.addfile(_member("big", 500 * MIB), _Mixed(500 * MIB, seed))  # type: ignore[arg-type]
    return [path]


def _twelve(home: Path, seed: int) -> list[Path]:
    return [_files(home / f"layer-{n}.tar", f"part-{n}", 400, seed, (1000, 40_000)) for n in range(12)]


CASES = (
    Case("20,000 files", _small_files),
    Case("500 MB layer", _one_big),
    Case("12 layers", _twelve),
)


def make(case: Case, home: Path, seed: int) -> Made:
    """Make an image of a kind below an existing directory, which it overwrites."""
    layers = case.layers(home, seed)
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}" for layer in layers]},
        }
    ).encode()
    name = f"bench-{case.name.lower().replace(' ', '-').replace(',', '')}:{seed}"
    archive = home / "image.tar"
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    paths = [f"{number:02}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": paths}]).encode()
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT, copybufsize=MIB) as tar:
        for path, layer in zip(paths, layers, strict=True):
            with layer.open("rb") as data:
                tar.addfile(_member(path, layer.stat().st_size), data)
        for path, document in ((config_name, config), ("manifest.json", manifest)):
            tar.addfile(_member(path, len(document)), io.BytesIO(document))
    return Made(name, archive, tuple(layers), config)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

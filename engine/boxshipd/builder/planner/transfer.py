"""COPY and ADD with their variables expanded."""

from __future__ import annotations

from msgspec import Struct


class Target(Struct, frozen=True, kw_only=True):
    """Where sources go: a path, and what it must be, as ``graph.Copy`` has it."""

    path: str
    directory: bool
    many: bool


class Transfer(Struct, frozen=True, kw_only=True):
    """COPY or ADD with its variables expanded. ``unpack`` is None where nothing is said."""

    keyword: str
    sources: tuple[str, ...]
    documents: tuple[tuple[str, bytes], ...]
    destination: str
    owner: str
    mode: str
    link: bool
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None

    @property
    def created_by(self) -> str:
        """What the history has of it."""
        words = [self.keyword]
        words += ["--parents"] if self.parents else []
        words += [f"--chown={self.owner}"] if self.owner else []
        words += [f"--chmod={self.mode}"] if self.mode else []
        words += self.sources
        words += [f"<<{name}" for name, _ in self.documents]
        return " ".join([*words, self.destination])

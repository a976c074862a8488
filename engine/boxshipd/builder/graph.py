"""The graph of operations that a build is: what BuildKit calls LLB, as msgspec Structs.

A vertex is named by the digest of its operation and its inputs' digests, so equal work is one vertex, whoever asked for it.
What is for people only (the name that is shown) and what decides whether the cache is asked is not part of the digest. Source:
BuildKit solver/pb/ops.proto.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import Struct

from boxshipd.images.model import Platform
from boxshipd.images.record import Layer


class Input(Struct, frozen=True):
    """One output of a vertex, as another's input."""

    vertex: str
    output: int = 0


class ImageSource(Struct, frozen=True, kw_only=True, tag="image"):
    """An image's file system. ``reference`` is an image's id, or a name with a digest.

    ``layers``: those of an image that the client supplies, which is none of the daemon's; the build keeps them.
    """

    reference: str
    platform: Platform
    layers: tuple[Layer, ...] = ()


class ContextSource(Struct, frozen=True, kw_only=True, tag="context"):
    """Files that the client supplies: the build context (``context``), or one named with ``--build-context``.

    ``exclude`` are patterns of an ignore file, in order.
    """

    name: str = "context"
    exclude: tuple[str, ...] = ()


class HttpSource(Struct, frozen=True, kw_only=True, tag="http"):
    """One file from a URL, or, for a build's context, the archive that is there.

    ``checksum``: a digest that it must have, or empty. ``unpack``: if it is an archive, the tree is what that holds.
    """

    url: str
    checksum: str = ""
    filename: str = ""
    unpack: bool = False


class GitSource(Struct, frozen=True, kw_only=True, tag="git"):
    """A repository's tree at a branch, tag or commit (``ref``, empty for its HEAD), or a directory of it.

    ``submodules``: their files are in their places.
    """

    remote: str
    ref: str = ""
    directory: str = ""
    keep_git_dir: bool = False
    checksum: str = ""
    submodules: bool = True


class Mount(Struct, frozen=True, kw_only=True):
    """Something mounted for a command.

    ``input`` is the place of what is mounted among the vertex's inputs, -1 for nothing (tmpfs, an empty cache or bind).
    ``source`` is a path in it. ``id`` names a cache, a secret or an agent. ``size`` in bytes, 0 for no limit. ``env``: the
    variable that gets a secret. ``mode``, ``uid`` and ``gid`` are those of a new cache's directory, a secret's file or an
    agent's socket.
    """

    target: str
    kind: Literal["bind", "cache", "tmpfs", "secret", "ssh"] = "bind"
    input: int = -1
    source: str = ""
    readonly: bool = False
    id: str = ""
    sharing: Literal["shared", "private", "locked"] = "shared"
    size: int = 0
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    required: bool = False
    env: str = ""


class Exec(Struct, frozen=True, kw_only=True, tag="exec"):
    """A command in the file system of input 0 (where ``scratch`` isn't set: then there is none); its output is that, changed.

    ``proxy`` are variables that a change of doesn't make it another command. ``extra_hosts`` are ``name:address``.
    ``shm_size`` in bytes, 0 for the default; ``ulimits`` as the API has them (``name=soft:hard``).
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    proxy: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    scratch: bool = False
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    cgroup_parent: str = ""


class Copy(Struct, frozen=True, kw_only=True, tag="copy"):
    """Copy files of another input into the file system.

    ``input``: the place among the vertex's inputs of what is copied from. ``sources``: paths in it, with wildcards.
    ``directory``: the destination is one, whatever is there (it ended in a slash). ``many``: it didn't, but there are several
    sources, so a directory must be there. ``owner`` as ``--chown`` has it (names are those of the file system that is changed);
    empty for 0:0, except that ``keep_owner`` leaves what the source has. ``mode`` as ``--chmod`` has it, octal or symbolic.
    ``unpack``: archives among the sources are unpacked.
    ``parents``: the sources' directories are kept, from ``/./`` on where a source has it. ``exclude``: patterns relative to the
    source. ``times``: seconds since the epoch for all files, None to keep theirs.
    """

    input: int
    sources: tuple[str, ...]
    destination: str
    directory: bool = False
    many: bool = False
    owner: str = ""
    keep_owner: bool = False
    mode: str = ""
    unpack: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    times: int | None = None


class MakeFile(Struct, frozen=True, kw_only=True, tag="file"):
    """Write a file: what a heredoc of COPY says. ``many`` as with ``Copy``."""

    path: str
    data: bytes
    owner: str = ""
    mode: str = ""
    directory: bool = False
    many: bool = False
    name: str = ""
    times: int | None = None


class MakeDirectory(Struct, frozen=True, kw_only=True, tag="directory"):
    """Make a directory with those above it, where missing."""

    path: str
    mode: int = 0o755
    owner: str = ""
    times: int | None = None


Action = Copy | MakeFile | MakeDirectory


class Files(Struct, frozen=True, kw_only=True, tag="files"):
    """Changes to files, in order, to the file system of input 0, or to an empty one where ``scratch`` is set: one new layer."""

    actions: tuple[Action, ...]
    scratch: bool = False


class Merge(Struct, frozen=True, tag="merge"):
    """The inputs' layers, one upon the other, lowest first:

    layers of a later one need not be made anew where an earlier one changes.
    """


class Diff(Struct, frozen=True, tag="diff"):
    """What input 1 has on top of input 0, as layers of their own."""


Operation = ImageSource | ContextSource | HttpSource | GitSource | Exec | Files | Merge | Diff


class Vertex(Struct, frozen=True, kw_only=True):
    """One operation with its inputs.

    Attributes:
        name: as progress shows it: ``[build 2/5] RUN make``.
        instruction: the Dockerfile's text that it comes from, in classic form (``RUN make``), empty where none does.
        stage: the stage's name or number, empty for what belongs to none.
        image: the full name by which a base image was asked for; empty for everything else.
        ignore_cache: it is run whatever the cache has.
    """

    op: Operation
    inputs: tuple[Input, ...] = ()
    platform: Platform | None = None
    name: str = ""
    instruction: str = ""
    stage: str = ""
    image: str = ""
    ignore_cache: bool = False

    @property
    def digest(self) -> str:
        """``sha256:`` and the digest of what it does."""
        document = msgspec.json.encode([self.op, self.inputs, self.platform], order="deterministic")
        return f"sha256:{hashlib.sha256(document).hexdigest()}"


class Graph:
    """Vertices by their digests, inputs always before those that use them."""

    def __init__(self) -> None:
        self.vertices: dict[str, Vertex] = {}

    def add(self, vertex: Vertex) -> Input:
        """Add a vertex; its only, or first, output. One that is there already stays as it is."""
        digest = vertex.digest
        self.vertices.setdefault(digest, vertex)
        return Input(digest)

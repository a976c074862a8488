"""What a build is asked to do, in full: the JSON body of ``POST /build?version=boxship&session=<id>``.

The classic parameters of Docker's ``POST /build`` are read into the same type. The context, secrets and SSH agents come by the
session (``build_session``); a build that needs none of them needs no session.
"""

from __future__ import annotations

from msgspec import Struct, field


class BuildOutput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes of the result.

    Attributes:
        type: ``image`` (into the daemon's images), ``oci`` and ``docker`` (an archive), ``tar`` (the root file system) or
            ``local`` (the same, to be unpacked); all but the first go to the session.
        attrs: as BuildKit's exporters have them, such as ``name``, ``push``, ``compression``, ``oci-mediatypes``.
    """

    type: str = "image"
    attrs: dict[str, str] = {}


class CacheOption(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where cache comes from or goes to: ``registry``, ``local`` or ``inline``; attributes such as ``ref`` and ``mode``."""

    type: str = "registry"
    attrs: dict[str, str] = {}


class BuildLimits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What commands may take: memory in bytes (``memory_swap`` -1: no limit), CPU time in us; 0 for no limit."""

    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""


class BuildUlimit(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A resource limit, as ``--ulimit`` has it."""

    name: str
    soft: int
    hard: int


class BuildRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A build.

    Attributes:
        dockerfile: the Dockerfile's path in the context, or only its name where ``text`` is given; empty for ``Dockerfile``.
        text: the Dockerfile itself, where it doesn't come out of the context.
        ignore: with ``text``, the ignore file that belongs to it, where the context isn't filtered yet.
        remote: the context's URL or repository; empty where the client supplies it.
        tags: names for the image.
        target: the stage wanted; empty for the last.
        build_args: ``--build-arg``; None takes a predefined one away.
        labels: ``--label``.
        platforms: those to build for, such as ``linux/arm64``; none for the daemon's own.
        contexts: ``--build-context``: a name, and a URL, a repository, ``docker-image://…``, or ``input:`` (files) or
            ``oci-layout://`` (an image) with the name of what the session has.
        no_cache: nothing is taken from the cache.
        no_cache_filter: no step of these stages is.
        pull: images are asked for at their registries even if they are here.
        cache_from: where cache is looked for beside our own.
        cache_to: where cache goes to.
        outputs: what becomes of the result; none for an image.
        network: ``default``, ``none``, ``host``, or a network's name, for commands that don't say.
        extra_hosts: ``name:address``.
        shm_size: of ``/dev/shm``, in bytes; 0 for the default.
        ulimits: of commands.
        limits: of commands.
        cgroup_parent: where commands' cgroups are made.
        allow: entitlements: ``network.host``, ``security.insecure``.
        check: look for what could be better in the Dockerfile, and build nothing.
        provenance: attributes of the provenance attestation (``mode``, ``version``); None for none.
        sbom: asks for a bill of materials.
        epoch: SOURCE_DATE_EPOCH in seconds since the epoch; the build argument of that name says the same.
        squash: make one layer of what the build adds.
        quiet: tell the image's id only.
        build_id: by which ``POST /build/cancel`` finds it.
    """

    dockerfile: str = ""
    text: str | None = None
    ignore: str = ""
    remote: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    platforms: tuple[str, ...] = ()
    contexts: dict[str, str] = {}
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    cache_from: tuple[CacheOption, ...] = ()
    cache_to: tuple[CacheOption, ...] = ()
    outputs: tuple[BuildOutput, ...] = ()
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[BuildUlimit, ...] = ()
    limits: BuildLimits = BuildLimits()
    cgroup_parent: str = ""
    allow: tuple[str, ...] = ()
    check: bool = False
    provenance: dict[str, str] | None = None
    sbom: bool = False
    epoch: int | None = None
    squash: bool = False
    quiet: bool = False
    build_id: str = ""


class BuildResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a build, the ``aux`` of the stream's last document, whose ``id`` is ``boxship.build.result``.

    ``id`` (on the wire ``ID``) is the image's, or that of the first of several; empty where no image was made. ``metadata`` is
    what buildx writes with ``--metadata-file``.
    """

    id: str = field(name="ID", default="")
    metadata: dict[str, object] = {}

"""What the runtime is told to run: the container spec.

The daemon turns a Docker configuration into this once, at ``create``; from here on nothing knows Docker's names.
It travels over the bus to the supervisor and on to the shim, and is kept in the runtime's state directory, so fields
are only ever added, with a default.

Paths named ``*_dir``, ``lower``, ``upper``, ``work``, ``source`` are absolute paths of the host; ``target`` and ``cwd``
are absolute paths inside the container. Sizes are bytes, times nanoseconds. The model follows the OCI runtime specification
(config.md, config-linux.md) with what Docker never uses left out.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

NamespaceKind = Literal["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"]


class Namespace(Struct, frozen=True, kw_only=True):
    """A namespace the container gets.

    A kind that is absent from ``Spec.namespaces`` is the host's. With neither field set it is a new one.
    ``container`` joins the one of another running container (its 64-hex id); ``path`` joins a namespace file.
    """

    kind: NamespaceKind
    container: str = ""
    path: str = ""


class IDMapping(Struct, frozen=True, kw_only=True):
    """``size`` ids from ``inside`` map to ids from ``outside``. Source: user_namespaces(7)."""

    inside: int
    outside: int
    size: int


class Root(Struct, frozen=True, kw_only=True):
    """The root file system: overlay of ``lower`` (topmost first) with ``upper`` and ``work``.

    Mounted only inside the container's mount namespace, so that the host never sees it. With mappings, what is on the disk has
    the ids that the container sees; ``upper`` and ``work`` are then in one directory. ``volatile``: what is written is worth
    nothing after a crash of the machine, so nobody waits for a disk; the pair of directories is mounted this once only.
    """

    lower: tuple[str, ...]
    upper: str
    work: str
    readonly: bool = False
    propagation: str = "rprivate"
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    volatile: bool = False


class Mount(Struct, frozen=True, kw_only=True):
    """A mount inside the container, made in list order.

    ``kind`` is ``bind`` (from ``source``), ``tmpfs`` (size in bytes, 0 for the kernel's default; mode) or ``proc``, ``sysfs``,
    ``cgroup``, ``mqueue``, ``devpts``. ``options`` are further mount options as mount(8) names them
    (``ro nosuid nodev noexec size=… mode=…``). ``propagation`` is one of Docker's six words.
    ``create_target`` makes a missing target: a file when ``source`` is a file, else a directory.
    A bind with ``container`` (the id of a running one whose ipc namespace is joined) takes the tmpfs that is mounted at
    ``source`` in there, without anything of it being mounted in the host.
    ``overlay`` shows the directories ``lower`` (topmost first) as one read-only tree, or as one that is written to ``upper``,
    with ``work`` beside it, and is volatile as a root may be. ``filesystem`` is a file system of the
    type ``filesystem`` on ``source``, which may be a device or what the type takes instead; it is made in the host's network
    namespace. With mappings a bind's source has the ids that the container sees (id-mapped mounts).
    ``subpath`` takes only that path inside a bind's source or an overlay, resolved so that it can't leave it.
    """

    kind: Literal["bind", "tmpfs", "proc", "sysfs", "cgroup", "mqueue", "devpts", "overlay", "filesystem"]
    target: str
    source: str = ""
    options: tuple[str, ...] = ()
    readonly: bool = False
    recursive: bool = True
    recursive_readonly: Literal["no", "if-possible", "required"] = "if-possible"
    propagation: str = "rprivate"
    create_target: bool = True
    container: str = ""
    lower: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    filesystem: str = ""
    subpath: str = ""
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


class Device(Struct, frozen=True, kw_only=True):
    """A device node in the container's /dev, taken from the host's node at ``source``.

    With ``kind`` it is the device of these numbers instead; ``mode``, ``uid`` and ``gid`` that aren't -1 override the node's.
    """

    source: str
    target: str
    kind: Literal["", "b", "c"] = ""
    major: int = 0
    minor: int = 0
    mode: int = -1
    uid: int = -1
    gid: int = -1


class DeviceRule(Struct, frozen=True, kw_only=True):
    """One line of the device controller's list, in order. ``major``/``minor`` -1 mean any. Source: cgroup-v1/devices.rst."""

    allow: bool
    kind: Literal["a", "b", "c"]
    major: int = -1
    minor: int = -1
    access: str = "rwm"


class DeviceValue(Struct, frozen=True, kw_only=True):
    """A number for one block device: a weight (10 to 1000) or a rate per second."""

    major: int
    minor: int
    value: int


class Resources(Struct, frozen=True, kw_only=True):
    """Limits, in Docker's units. ``None`` means not set; memory_swap is memory plus swap, -1 unlimited."""

    memory: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_realtime_period: int | None = None
    cpu_realtime_runtime: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: tuple[DeviceValue, ...] = ()
    read_bps: tuple[DeviceValue, ...] = ()
    write_bps: tuple[DeviceValue, ...] = ()
    read_iops: tuple[DeviceValue, ...] = ()
    write_iops: tuple[DeviceValue, ...] = ()
    devices: tuple[DeviceRule, ...] = ()


class Rlimit(Struct, frozen=True, kw_only=True):
    """A resource limit by its name without ``RLIMIT_``, in lower case; -1 means unlimited. Source: getrlimit(2)."""

    name: str
    soft: int
    hard: int


class Process(Struct, frozen=True, kw_only=True):
    """The program to run.

    ``user`` is Docker's ``user[:group]`` in names or numbers, resolved against the container's own files;
    ``groups`` are supplementary groups beyond those. ``capabilities`` are names with ``CAP_``: bounding, permitted and
    effective set (effective only for uid 0, as execve(2) has it); the inheritable and ambient sets stay empty.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    terminal: bool = False
    console_height: int = 0
    console_width: int = 0


class Seccomp(Struct, frozen=True, kw_only=True):
    """``unconfined``, or a profile: ``builtin``, or ``custom`` with Docker's profile JSON in ``profile``."""

    mode: Literal["unconfined", "builtin", "custom"] = "builtin"
    profile: str = ""


class Stdio(Struct, frozen=True, kw_only=True):
    """``open_stdin``: keep a stdin (else it is /dev/null). ``stdin_once``: close it when the first attached client's ends."""

    open_stdin: bool = False
    stdin_once: bool = False
    detach_keys: str = ""


class LogSubject(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the drivers that send say of a container; ``tag`` is Docker's log option with its template filled in."""

    id: str = ""
    name: str = ""
    image_id: str = ""
    image_name: str = ""
    command: str = ""
    created: str = ""
    tag: str = ""


class Log(Struct, frozen=True, kw_only=True):
    """Where output goes: the driver, and the file in the host.

    ``max_size`` in bytes rotates (-1 never), keeping ``max_files`` files in all; ``compress`` gzips rotated ones.
    ``attrs`` are written with every line (Docker's labels and env options). ``blocking`` false drops, and counts, what
    a buffer of ``buffer_size`` bytes can't hold. The drivers that send have ``options`` of their own, by Docker's names; the
    file is their cache, in the ``local`` format, without a path where there is none. With ``messages_limit`` they never hold
    the container up, and drop what is more than so many messages, or more memory than a shim may take.
    """

    driver: Literal["json-file", "local", "none", "journald", "syslog", "fluentd", "gelf"] = "json-file"
    path: str = ""
    max_size: int = -1
    max_files: int = 1
    compress: bool = False
    attrs: dict[str, str] = {}
    blocking: bool = True
    buffer_size: int = 1 << 20
    options: dict[str, str] = {}
    subject: LogSubject = LogSubject()
    messages_limit: int = 0


class Cgroup(Struct, frozen=True, kw_only=True):
    """``parent`` is a path below the hierarchy's root (``/boxship``), ``name`` the container's directory in it."""

    parent: str
    name: str


class ForeignRuntime(Struct, frozen=True, kw_only=True):
    """Another OCI runtime's program that makes the container: its absolute path and arguments before the command."""

    path: str
    args: tuple[str, ...] = ()


class Spec(Struct, frozen=True, kw_only=True):
    """A container. ``id`` is 64 lower-case hex digits; ``state_dir`` is where its exit record is kept durably."""

    id: str
    state_dir: str
    process: Process
    root: Root
    cgroup: Cgroup
    namespaces: tuple[Namespace, ...]
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = Resources()
    hostname: str = ""
    domainname: str = ""
    sysctls: dict[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: Seccomp = Seccomp()
    stdio: Stdio = Stdio()
    log: Log = Log()
    init: bool = False
    time_offsets: dict[str, int] = {}
    runtime: ForeignRuntime | None = None
    annotations: dict[str, str] = {}

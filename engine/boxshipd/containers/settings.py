"""What the daemon's configuration says about containers."""

from __future__ import annotations

from boxrun.container.spec import IDMapping
from boxship.types.host import LogConfig, Ulimit
from msgspec import Struct

from boxshipd.config import CDI_SPEC_DIRS, OWN_RUNTIME, Runtime


class Settings(Struct, frozen=True, kw_only=True):
    """The engine's settings; names in the docstring are dockerd's flags.

    Args:
        data_root: absolute path (``--data-root``); containers live in ``<data_root>/containers``.
        exec_root: absolute path (``--exec-root``), where the supervisor's socket is.
        cgroup_parent: ``--cgroup-parent``.
        log_config: ``--log-driver`` and ``--log-opt``. json-file rotates by default.
        default_shm_size: bytes (``--default-shm-size``).
        default_ulimits: by name (``--default-ulimit``).
        default_ipc_mode: ``private`` or ``shareable`` (``--default-ipc-mode``).
        default_cgroupns_mode: ``private`` or ``host`` (``--default-cgroupns-mode``).
        no_new_privileges: ``--no-new-privileges``.
        seccomp_profile: empty for the built-in one, ``unconfined``, or a profile's JSON (``--seccomp-profile``).
        init: ``--init``.
        uid_mappings, gid_mappings: the user namespace of containers, empty for none (``--userns-remap``).
        runtimes: other OCI runtimes by name (``--add-runtime``).
        default_runtime: the runtime of containers that ask for none (``--default-runtime``).
        cdi_spec_dirs: where specifications of CDI devices are (``--cdi-spec-dir``).
        live_restore: whether containers outlive the daemon (``--live-restore``).
        shutdown_timeout: seconds containers get to stop where the daemon stops them (``--shutdown-timeout``).
        dns, dns_options, dns_search: resolver defaults (``--dns``, ``--dns-opt``, ``--dns-search``).
        log_level: what the supervisor is started with (``--log-level``).
    """

    data_root: str
    exec_root: str
    cgroup_parent: str = "/boxship"
    log_config: LogConfig = LogConfig(type="json-file")
    default_shm_size: int = 64 << 20
    default_ulimits: dict[str, Ulimit] = {}
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = "private"
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    init: bool = False
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    runtimes: dict[str, Runtime] = {}
    default_runtime: str = OWN_RUNTIME
    cdi_spec_dirs: tuple[str, ...] = CDI_SPEC_DIRS
    live_restore: bool = True
    shutdown_timeout: int = 15
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    log_level: str = "info"

"""What of a container's configuration this machine can't give: warnings in create's answer, or a refusal."""

from __future__ import annotations

import os

from boxrun.container.spec import Resources, Spec
from boxrun.supervisor.contract import CheckRequest, Runtime
from boxship.types.host import HostConfig
from msgspec.structs import replace

from boxshipd import file_systems
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.runtime.link import RuntimeLink

_NO_LIMITS = Resources()


async def check_machine(spec: Spec | None, runtime: RuntimeLink) -> list[str]:
    """Warnings about limits that the kernel or our privileges don't allow.

    Args:
        spec: the container's; None where it can't be told before its start.
        runtime: whom to ask; nobody is asked where nothing out of the ordinary is wanted.

    Raises:
        InvalidParameter: a limit without which it couldn't be started.
        Unavailable: the runtime can't be reached.
    """
    if spec is None:
        return []
    limited = replace(spec.resources, devices=()) != _NO_LIMITS
    adjustment = spec.process.oom_score_adj
    if not limited and not spec.process.rlimits and not (adjustment and adjustment < 0):
        return []
    request = CheckRequest(
        cgroup_parent=spec.cgroup.parent,
        resources=spec.resources,
        rlimits=spec.process.rlimits,
        oom_score_adj=adjustment,
    )
    reply = await runtime.call(Runtime.check, request, f"check the limits of container {spec.id}")
    if reply.refusal:
        raise InvalidParameter(reply.refusal)
    return list(reply.warnings)


def without_effect(host: HostConfig) -> list[str]:
    """Warnings about what has no effect, or a dangerous one: settings that Docker, or runc, passes over in silence."""
    warnings = []
    if host.kernel_memory_tcp:
        warnings.append("KernelMemoryTCP has no effect: kernel memory is no longer limited by itself")
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    for option in host.security_opt or ():
        key = option.partition("=" if "=" in option else ":")[0]
        value = option[len(key) + 1 :]
        if key == "apparmor" and value not in ("", "unconfined") and not has_apparmor():
            warnings.append(f"--security-opt {option} has no effect: this kernel has no AppArmor")
        elif key == "label" and value != "disable" and not has_selinux():
            warnings.append(f"--security-opt {option} has no effect: this kernel has no SELinux")
    return warnings


def validate_storage(host: HostConfig, data_root: str) -> None:
    """Check ``--storage-opt``, whose only key would be ``size``.

    Raises:
        InvalidParameter: there is no such option, or the file system below ``data_root`` couldn't keep to it.
        NotImplementedHere: it could, but this engine sets no quotas.
    """
    for key, value in (host.storage_opt or {}).items():
        if key.lower() != "size":
            raise InvalidParameter(f"unknown option: {key}")
        if not _has_project_quotas(data_root):
            raise InvalidParameter("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
        raise NotImplementedHere(f"--storage-opt size={value}: quotas are not available yet")


def _has_project_quotas(path: str) -> bool:
    """Whether the file system of ``path`` is XFS that counts by project."""
    found = file_systems.of_path(path)
    return found is not None and found.kind == "xfs" and bool({"prjquota", "pquota"} & found.options)


def has_apparmor() -> bool:
    """Whether the kernel confines programs by AppArmor profiles."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def has_selinux() -> bool:
    """Whether the kernel confines programs by SELinux labels."""
    return os.path.exists("/sys/fs/selinux/enforce")

"""The image ``boxship/base``, made out of what this machine has, so that a container runs without a registry or a network.

With a static busybox that is all of its commands; else the shell, the core tools and the libraries they need. The same
machine always makes the same image.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime

from boxship.types.containers import ContainerConfig
from msgspec import UNSET

from boxshipd.errors import Unavailable
from boxshipd.images import elf, platform, reference
from boxshipd.images.assembly import Assembly, Stores
from boxshipd.images.catalogue import Record
from boxshipd.images.model import History, ImageConfig, RootFS, encode

NAME = reference.parse("boxship/base:latest")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BUSYBOX = ("busybox", "busybox-static", "busybox.static")
# fmt: off
_TOOLS = (
    "sh", "bash", "awk", "base64", "basename", "cat", "chgrp", "chmod", "chown", "chroot", "cp", "cut", "date", "dd", "df",
    "dirname", "du", "echo", "env", "expr", "false", "find", "free", "getent", "grep", "gunzip", "gzip", "head", "hostname",
    "id", "install", "ip", "kill", "less", "link", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "mount",
    "mv", "nice", "nohup", "nproc", "od", "paste", "printenv", "printf", "ps", "pwd", "readlink", "realpath", "rm", "rmdir",
    "sed", "seq", "sha256sum", "sleep", "sort", "split", "stat", "stty", "sync", "tail", "tar", "tee", "test", "timeout",
    "top", "touch", "tr", "true", "truncate", "tty", "umount", "uname", "uniq", "wc", "which", "whoami", "xargs", "yes",
)
# fmt: on
# fmt: off
_DIRECTORIES = (
    "bin", "dev", "etc", "home", "lib", "lib64", "mnt", "opt", "proc", "run", "sbin", "srv", "sys", "usr", "usr/bin",
    "usr/lib", "usr/local", "usr/local/bin", "usr/local/sbin", "usr/sbin", "var", "var/log",
)
# fmt: on
_FILES = {
    "etc/group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\ntty:x:5:\ndisk:x:6:\n"
        "mail:x:8:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"
    ),
    "etc/hostname": "",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": 'NAME="Boxship base"\nID=boxship-base\nPRETTY_NAME="Boxship base"\n',
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/resolv.conf": "",
}


def build(stores: Stores, assembly: Assembly) -> Record:
    """Make the image. To be called on a worker's thread.

    Raises:
        Unavailable: this machine has no shell.
    """
    shell, members = _busybox() or _host_tools()
    with stores.content.writer() as writer:
        data = _archive(members)
        writer.write(data)
        blob = assembly.session.commit(writer)
    here = platform.host()
    created = datetime.fromtimestamp(int(os.stat(shell).st_mtime), UTC).isoformat().replace("+00:00", "Z")
    config = ImageConfig(
        rootfs=RootFS([f"sha256:{hashlib.sha256(data).hexdigest()}"]),
        architecture=here.architecture,
        os=here.os,
        variant=here.variant or UNSET,
        created=created,
        config=ContainerConfig(env=[f"PATH={_PATH}"], cmd=["sh"]),
        history=[History(created=created, created_by=f"boxship base from {shell}")],
    )
    return assembly.image(encode(config), [blob])


Members = dict[str, tuple[str, str]]
"""What goes into the image, by its path: ``("file", host's path)`` or ``("link", path in the image)``."""


def _busybox() -> tuple[str, Members] | None:
    """A static busybox with a link for each of its commands, if this machine has one."""
    for name in _BUSYBOX:
        for candidate in (shutil.which(name), f"/bin/{name}", f"/usr/bin/{name}"):
            if candidate and os.path.isfile(candidate) and elf.is_static(candidate):
                members: Members = {"bin/busybox": ("file", candidate)}
                for applet in _applets(candidate):
                    members.setdefault(applet, ("link", "bin/busybox"))
                if "bin/sh" in members:
                    return candidate, members
    return None


def _applets(busybox: str) -> list[str]:
    """Where busybox would install its commands."""
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=False, timeout=30, env={})
    return [
        line.strip().lstrip("/")
        for line in listed.stdout.splitlines()
        if line.strip() and ".." not in line and "busybox" not in line
    ]


def _host_tools() -> tuple[str, Members]:
    """The shell, what core tools there are, and their libraries at the paths they are looked for."""
    shell = shutil.which("sh", path=_PATH)
    if shell is None:
        raise Unavailable("make image boxship/base: this machine has neither a static busybox nor a shell")
    members: Members = {}
    for tool in _TOOLS:
        found = shutil.which(tool, path=_PATH)
        if found is None:
            continue
        target = os.path.realpath(found)
        libraries = elf.libraries(target)
        if libraries is None:
            # A script, whose interpreter may be anything.
            continue
        members[f"bin/{tool}"] = ("file", target)
        for library in libraries:
            members[library.lstrip("/")] = ("file", os.path.realpath(library))
    return shell, members


def _archive(members: Members) -> bytes:
    """The layer: the same bytes for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in _parents([*members, *_FILES]):
            archive.addfile(_member(name, tarfile.DIRTYPE, 0o755))
        for name, mode in (("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777)):
            archive.addfile(_member(name, tarfile.DIRTYPE, mode))
        for name, text in sorted(_FILES.items()):
            _add(archive, name, text.encode(), 0o644)
        # A hard link comes after what it links to.
        for name, (kind, source) in sorted(members.items(), key=lambda item: (item[1][0] == "link", item[0])):
            if kind == "link":
                link = _member(name, tarfile.LNKTYPE, 0o755)
                link.linkname = source
                archive.addfile(link)
            else:
                with open(source, "rb") as file:
                    _add(archive, name, file.read(), 0o755)
    return buffer.getvalue()


def _parents(names: list[str]) -> Iterator[str]:
    """All directories that are needed, each after the one it is in."""
    directories = set(_DIRECTORIES)
    for name in names:
        parts = name.split("/")
        directories.update("/".join(parts[:count]) for count in range(1, len(parts)))
    return iter(sorted(directories))


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = _member(name, tarfile.REGTYPE, mode)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = mode
    return member

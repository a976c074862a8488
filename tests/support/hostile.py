"""Archives that try to get out of where they are unpacked, and what a directory looks like, to see that nothing did."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from support.archives import member, tar

DIR, SYM, HARD, CHR = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
EVIL = b"evil"

# {out} is a directory outside of the root, {up} enough steps to leave it.
REFUSED = {
    "dot-dot": [("../escaped", EVIL)],
    "dot-dot-inside": [("a/../../escaped", EVIL)],
    "dot-dot-directory": [("{up}{out}/escaped/", None, DIR)],
    "dot-dot-symlink-name": [("../escaped", None, SYM, "x")],
    "hard-link-by-dot-dot": [("l", None, HARD, "{up}{out}/sentinel")],
    "hard-link-absolute": [("l", None, HARD, "{out}/sentinel")],
    "hard-link-through-symlink": [("d", None, SYM, "{out}"), ("l", None, HARD, "d/sentinel")],
    "hard-link-to-root": [("l", None, HARD, "/")],
    "hard-link-to-itself": [("l", EVIL), ("l", None, HARD, "l")],
    "hard-link-to-directory": [("d/", None, DIR), ("l", None, HARD, "d")],
    "file-through-absolute-symlink": [("d", None, SYM, "{out}"), ("d/escaped", EVIL)],
    "file-through-relative-symlink": [("d", None, SYM, "{up}{out}"), ("d/escaped", EVIL)],
    "file-through-chained-symlinks": [("a", None, SYM, "{up}"), ("b", None, SYM, "a{out}"), ("b/escaped", EVIL)],
    "directory-through-symlink": [("d", None, SYM, "{out}"), ("d/escaped/", None, DIR)],
    "device-through-symlink": [("d", None, SYM, "{out}"), ("d/escaped", None, CHR)],
    "whiteout-through-symlink": [("d", None, SYM, "{out}"), ("d/.wh.sentinel", b"")],
    "opaque-through-symlink": [("d", None, SYM, "{out}"), ("d/.wh..wh..opq", b"")],
    "proc-self-root": [("d", None, SYM, "/proc/self/root"), ("d/{out}/escaped", EVIL)],
    "symlink-loop": [("a", None, SYM, "b"), ("b", None, SYM, "a"), ("a/x", EVIL)],
    "parent-is-a-file": [("f", EVIL), ("f/x", EVIL)],
    "whiteout-of-dot": [(".wh..", b"")],
    "whiteout-of-dot-dot": [(".wh...", b"")],
    "whiteout-of-nothing": [(".wh.", b"")],
    "root-as-symlink": [("./", None, SYM, "{out}")],
    "root-as-file": [("/", EVIL)],
    "name-too-long": [("n" * 300, EVIL)],
    "path-too-long": [("d/" * 2500 + "f", EVIL)],
    "empty-symlink": [("l", None, SYM, "")],
    "unknown-type": [("u", None, b"Z")],
}
HARMLESS = {
    "absolute-name": [("/etc/escaped", EVIL)],
    "symlink-replaced-by-file": [("l", None, SYM, "{out}/sentinel"), ("l", EVIL)],
    "symlink-replaced-by-directory": [("l", None, SYM, "{out}"), ("l/", None, DIR), ("l/escaped", EVIL)],
    "hard-link-to-symlink-then-written": [("s", None, SYM, "{out}/sentinel"), ("l", None, HARD, "s"), ("l", EVIL)],
    "directory-replaced-by-symlink": [("d/", None, DIR), ("d/f", EVIL), ("d", None, SYM, "{out}")],
    "chmod-through-symlink": [("s", None, SYM, "{out}/sentinel"), ("s", None, SYM, "{out}/sentinel")],
    "whiteout-of-symlink": [("s", None, SYM, "{out}/sentinel"), (".wh.s", b"")],
    "file-twice": [("f", b"first"), ("f", EVIL)],
    "directory-twice": [("d/", None, DIR), ("d/f", EVIL), ("d/", None, DIR)],
    "symlink-inside-stays-inside": [("real/", None, DIR), ("l", None, SYM, "/real"), ("l/f", EVIL)],
    "deep": [("d/" * 900 + "f", EVIL)],
}


def layer(entries, out: str) -> bytes:
    """An archive of such entries; ``out`` is the directory that they try to reach."""
    made = []
    for name, data, *rest in entries:
        kind = rest[0] if rest else tarfile.REGTYPE
        fields = {"mode": 0o6777, "uid": 12345, "mtime": 99}
        if len(rest) > 1:
            fields["linkname"] = rest[1].format(out=out, up="../" * 20)
        made.append((member(name.format(out=out, up="../" * 20), kind, **fields), data or b""))
    return tar(*made)


def state_of(path: str) -> list[tuple[object, ...]]:
    """Everything that can be seen of a directory."""
    found = []
    for directory, directories, names in os.walk(path):
        for name in [".", *directories, *names]:
            full = os.path.join(directory, name)
            status = os.lstat(full)
            content = Path(full).read_bytes() if os.path.isfile(full) and not os.path.islink(full) else b""
            found.append(
                (full, status.st_mode, status.st_uid, status.st_mtime_ns, status.st_nlink, content, os.listxattr(full))
            )
    return sorted(found)

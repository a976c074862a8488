"""Paths as instructions write them, made absolute. Source: BuildKit util/system/path.go (NormalizePath)."""

from __future__ import annotations

import posixpath


def clean(path: str) -> str:
    """An absolute path without ``.``, ``..`` or doubled slashes; it can't lead out of the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


def absolute(path: str, directory: str) -> str:
    """A path seen from a directory: where one is to be made, or a command to be run."""
    return clean(path if path.startswith("/") else f"{directory}/{path}")


def destination(path: str, directory: str) -> str:
    """Where COPY and ADD put things: absolute, and with the slash at its end that makes it a directory."""
    found = absolute(path, directory)
    is_directory = path in ("", ".") or path.endswith(("/", "/."))
    return found + "/" if is_directory and found != "/" else found

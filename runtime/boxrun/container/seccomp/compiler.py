"""Compiling seccomp policies with libseccomp, and remembering the programs."""

from __future__ import annotations

from boxrun.container import spec


def available() -> str | None:
    """``None`` where filters can be compiled and loaded here, else the reason they can't."""
    raise NotImplementedError


def compile_profile(seccomp: spec.Seccomp, capabilities: tuple[str, ...], *, cache_dir: str | None = None) -> bytes:
    """The program for ``load_program`` (empty for unconfined)."""
    raise NotImplementedError

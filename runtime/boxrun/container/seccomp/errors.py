"""Errors of the seccomp layer.

BoxrunError
└── SeccompError                 compiling or loading a filter failed
    ├── SeccompUnavailableError  libseccomp or the kernel's support is missing; the message says which
    └── ProfileError             a profile that can't be read or expressed; the message names the entry
"""

from __future__ import annotations

from boxrun.errors import BoxrunError


class SeccompError(BoxrunError):
    """A seccomp filter could not be compiled or loaded."""


class SeccompUnavailableError(SeccompError):
    """This machine can't filter system calls."""


class ProfileError(SeccompError):
    """A profile is malformed, or asks for what can't be given."""

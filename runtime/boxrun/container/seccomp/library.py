"""The few functions of libseccomp that turn rules into a BPF program. Source: seccomp_rule_add(3), seccomp_export_bpf(3)."""

from __future__ import annotations

import ctypes
import errno
import os
from types import TracebackType
from typing import Any, Self

from boxrun.container.seccomp.errors import SeccompError, SeccompUnavailableError
from boxrun.linux.syscalls import libc

_NAME = "libseccomp.so.2"
_OPTIMIZE_ATTRIBUTE = 8
_BINARY_TREE = 2
_UNKNOWN = -1
_NUMBERS = 1024


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


class _Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Library:
    """libseccomp, loaded.

    Raises:
        SeccompUnavailableError: it isn't installed.
    """

    def __init__(self) -> None:
        try:
            library: Any = ctypes.CDLL(_NAME)
        except OSError as error:
            raise SeccompUnavailableError(
                f"{_NAME} can't be loaded: {error} (Debian has it in libseccomp2, Fedora in libseccomp)"
            ) from error
        library.seccomp_version.restype = ctypes.POINTER(_Version)
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_init.argtypes = (ctypes.c_uint32,)
        library.seccomp_release.argtypes = (ctypes.c_void_p,)
        library.seccomp_release.restype = None
        library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
        library.seccomp_arch_resolve_name.argtypes = (ctypes.c_char_p,)
        library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
        library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
        library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
        library.seccomp_syscall_resolve_num_arch.argtypes = (ctypes.c_uint32, ctypes.c_int)
        library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
        self._free = libc.free
        self._free.argtypes = (ctypes.c_void_p,)
        self._free.restype = None
        library.seccomp_rule_add_array.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.POINTER(_Comparison),
        )
        library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
        self._library = library
        version = library.seccomp_version().contents
        self.version = f"{version.major}.{version.minor}.{version.micro}"

    def architecture(self, name: str) -> int | None:
        """The AUDIT_ARCH token of an architecture (``x86_64``), or None where this version doesn't know it."""
        return self._library.seccomp_arch_resolve_name(name.encode()) or None

    def number(self, name: str) -> int | None:
        """A call's native number, negative where only other architectures have it; None where this version doesn't know it."""
        number: int = self._library.seccomp_syscall_resolve_name(name.encode())
        return None if number == _UNKNOWN else number

    def number_on(self, token: int, name: str) -> int:
        """A call's number on an architecture, negative where it has none there."""
        number: int = self._library.seccomp_syscall_resolve_name_arch(token, name.encode())
        return number

    def numbers(self, token: int, first: int) -> dict[str, int]:
        """The calls of an architecture with numbers of their own, from ``first`` on."""
        found: dict[str, int] = {}
        for number in range(first, first + _NUMBERS):
            pointer = self._library.seccomp_syscall_resolve_num_arch(token, number)
            if pointer:
                found[ctypes.string_at(pointer).decode()] = number
                self._free(pointer)
        return found

    def filter(self, default: int) -> Filter:
        """An empty filter for the native architecture, answering ``default`` to everything. Raises SeccompError."""
        context = self._library.seccomp_init(default)
        if not context:
            raise SeccompError(f"seccomp_init: action {default:#x} was refused")
        return Filter(self._library, context)


class Filter:
    """A filter being put together; a context manager."""

    def __init__(self, library: Any, context: int) -> None:
        self._library = library
        self._context = context
        # Absent before libseccomp 2.5, which then compares the numbers one by one.
        library.seccomp_attr_set(context, _OPTIMIZE_ATTRIBUTE, _BINARY_TREE)

    def add_architecture(self, token: int) -> None:
        """Filter the calls of this architecture's programs too. Raises SeccompError."""
        self._check("seccomp_arch_add", self._library.seccomp_arch_add(self._context, token), errno.EEXIST)

    def add_rule(self, action: int, number: int, conditions: tuple[tuple[int, int, int, int], ...], name: str) -> None:
        """Answer ``action`` to a call whose arguments meet all conditions. Raises SeccompError."""
        comparisons = (_Comparison * len(conditions))(*(_Comparison(*condition) for condition in conditions))
        result = self._library.seccomp_rule_add_array(self._context, action, number, len(conditions), comparisons)
        self._check(f"seccomp_rule_add {name}", result, errno.EEXIST)

    def export(self) -> bytes:
        """The program's instructions. Raises SeccompError."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check("seccomp_export_bpf", self._library.seccomp_export_bpf(self._context, fd))
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._library.seccomp_release(self._context)

    @staticmethod
    def _check(operation: str, result: int, harmless: int = 0) -> None:
        if result < 0 and -result != harmless:
            raise SeccompError(f"{operation}: {os.strerror(-result)}")

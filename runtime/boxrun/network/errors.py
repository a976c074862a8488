"""The networks' errors, below the runtime's own.

BoxrunError
└── NetworkError            a network, sandbox or rule couldn't be had; its ``kind`` is that of ``contract.NetworkFailure``
    └── KernelRefusalError  the kernel refused a netlink request; has its errno
"""

from __future__ import annotations

import os
from typing import Literal

from boxrun.errors import BoxrunError
from boxrun.network.contract import Port

FailureKind = Literal["port", "address", "unsupported", "interface", "kernel"]


class NetworkError(BoxrunError):
    """A network, sandbox or rule couldn't be had."""

    def __init__(self, message: str, kind: FailureKind = "kernel", port: Port | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.kind: FailureKind = kind
        self.port = port


class KernelRefusalError(NetworkError):
    """The kernel refused a request."""

    def __init__(self, operation: str, errno: int, detail: str = "") -> None:
        super().__init__(f"{operation}: {os.strerror(errno)}" + (f" ({detail})" if detail else ""))
        self.errno = errno

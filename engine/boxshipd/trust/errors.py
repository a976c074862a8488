"""Why an image doesn't come in, or a signature doesn't count.

DaemonError                 (boxshipd.errors)
├── Forbidden
│   └── Untrusted           the policy doesn't let this image in: what it requires, and what was found
└── InvalidParameter
    └── BadSignature        one signature doesn't count; the text is the reason that ``Untrusted`` tells
"""

from __future__ import annotations

from boxshipd.errors import Forbidden, InvalidParameter


class Untrusted(Forbidden):
    """The policy doesn't let this image in."""


class BadSignature(InvalidParameter):
    """One signature doesn't count."""

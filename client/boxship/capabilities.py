"""Linux capabilities as people write them: in any case, with or without their prefix."""

from __future__ import annotations

ALL = "ALL"
"""Every capability there is."""


def full_name(name: str) -> str:
    """``net_admin`` as ``CAP_NET_ADMIN``; ``ALL`` stays. Whether there is such a capability is for the daemon to say."""
    upper = name.strip().upper()
    return upper if upper == ALL or upper.startswith("CAP_") else f"CAP_{upper}"

"""``--device`` and ``--gpus``: host devices, CDI devices and requests for GPUs.

Source: docker/cli opts/gpus.go and cli/command/container/opts.go, from which the messages are.
"""

from __future__ import annotations

import csv
import re
from typing import Any

from boxship.errors import InvalidValue

_QUALIFIED = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*")
_KEYS = ("driver", "count", "device", "options", "capabilities")


def is_cdi(text: str) -> bool:
    """Whether a ``--device`` names a CDI device (``vendor.com/class=name``) rather than a path."""
    return not text.startswith("/") and _QUALIFIED.fullmatch(text) is not None


def gpu_request(text: str) -> dict[str, Any]:
    """One ``--gpus`` as a DeviceRequest: ``all``, a number, or fields such as ``"device=0,1"`` separated by commas.

    Raises:
        InvalidValue: it is none of these.
    """
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [], "Options": {}}
    seen = set()
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise InvalidValue(f"invalid argument: {text}") from None
    for field in fields:
        key, equals, value = field.partition("=")
        if key in seen:
            raise InvalidValue(f"gpu request key '{key}' can be specified only once")
        if not equals:
            key, value = "count", field
        seen.add(key)
        if key not in _KEYS:
            raise InvalidValue(f"unexpected key '{key}' in '{field}'")
        if key == "driver":
            request["Driver"] = value
        elif key == "count":
            request["Count"] = _count(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        else:
            request["Options"] = dict(pair.partition("=")[::2] for pair in value.split(","))
    if not seen & {"count", "device"}:
        request["Count"] = 1
    request["Capabilities"] = request["Capabilities"] or [["gpu"]]
    return request


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return int(text)
    except ValueError:
        raise InvalidValue(f'invalid count ({text}): value must be either "all" or an integer') from None

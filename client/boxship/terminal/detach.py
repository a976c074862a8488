"""Detach keys: the sequence that leaves a container's terminal without ending the container."""

from __future__ import annotations

from boxship.errors import InvalidValue

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """Docker's notation as the bytes a terminal sends: ``ctrl-p,ctrl-q``, ``ctrl-@``, ``a,b``.

    Raises:
        InvalidValue: a key isn't known.
    """
    keys = bytearray()
    for key in text.split(","):
        control = key.removeprefix("ctrl-") if key.startswith("ctrl-") else ""
        if len(key) == 1 and key.isascii():
            keys.append(ord(key))
        elif len(control) == 1 and control.isascii() and control.isalpha():
            keys.append(ord(control.lower()) - 96)
        elif control in _CONTROL:
            keys.append(_CONTROL[control])
        else:
            raise InvalidValue(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(keys)


class DetachKeys:
    """Watches what is typed for the sequence.

    Args:
        keys: the sequence.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on of ``data``, and whether the sequence is complete.

        The beginning of a sequence is held back until it is known not to be one.
        """
        if not self._matched and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte != self._keys[self._matched]:
                passed += self._keys[: self._matched]
                self._matched = 0
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(passed), True
            else:
                passed.append(byte)
        return bytes(passed), False

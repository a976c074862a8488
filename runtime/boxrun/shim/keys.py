"""Detach keys: what a client types to leave a container running, in Docker's notation, and finding it in the input."""

from __future__ import annotations

_CONTROL = {f"ctrl-{chr(code + 0x60)}": code for code in range(1, 27)} | {
    "ctrl-@": 0,
    "ctrl-[": 27,
    "ctrl-\\": 28,
    "ctrl-]": 29,
    "ctrl-^": 30,
    "ctrl-_": 31,
    "DEL": 127,
}


def parse_keys(notation: str) -> bytes:
    """The bytes of a comma-separated list of keys: single characters, ``ctrl-<a-z@[\\]^_>`` or ``DEL``.

    Raises:
        ValueError: a key that the notation doesn't have. Source: moby/term ascii.go.
    """
    if not notation:
        return b""
    codes = bytearray()
    for key in notation.split(","):
        if key in _CONTROL:
            codes.append(_CONTROL[key])
        elif len(key) == 1 and ord(key) < 256:
            codes.append(ord(key))
        else:
            raise ValueError(f"Unknown character: '{key}'")
    return bytes(codes)


class KeyDetector:
    """Finds a sequence in a stream of bytes, whatever reads it is cut into.

    What may be the sequence's beginning is held back until the next byte decides.
    """

    __slots__ = ("_keys", "_matched")

    def __init__(self, keys: bytes) -> None:
        """Look for ``keys``, which is not empty."""
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """The bytes of ``data`` (and of what was held back) that go on to the program, and whether the sequence is complete.

        What follows a complete sequence is dropped: it was typed to nobody.
        """
        keys = self._keys
        if not self._matched and keys[0] not in data:
            return data, False
        passed = bytearray()
        matched = self._matched
        for byte in data:
            while matched and byte != keys[matched]:
                shorter = self._border(matched)
                passed += keys[: matched - shorter]
                matched = shorter
            if byte == keys[matched]:
                matched += 1
                if matched == len(keys):
                    self._matched = 0
                    return bytes(passed), True
            else:
                passed.append(byte)
        self._matched = matched
        return bytes(passed), False

    def _border(self, length: int) -> int:
        """The longest proper prefix of the keys that also ends their first ``length`` bytes."""
        for size in range(length - 1, 0, -1):
            if self._keys[:size] == self._keys[length - size : length]:
                return size
        return 0

    def flush(self) -> bytes:
        """What was held back, at the end of the stream."""
        held = self._keys[: self._matched]
        self._matched = 0
        return held

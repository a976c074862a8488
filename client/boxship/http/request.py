"""The bytes of an HTTP/1.1 request.

Source: RFC 9112.
"""

from __future__ import annotations

from boxship.errors import ProtocolError

Headers = list[tuple[str, str]]
END_OF_CHUNKS = b"0\r\n\r\n"


def head(method: str, target: str, fields: Headers) -> bytes:
    """A request up to its body.

    Args:
        method: GET, POST, …
        target: the path with its query, encoded.
        fields: the headers.

    Raises:
        ProtocolError: something in it would end a line, or can't be sent.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    for line in lines:
        # Printable ASCII holds no line break, with which one header could become two.
        if not (line.isascii() and line.isprintable()):
            raise ProtocolError(f"the request can't be sent: {line!r} has characters that HTTP's lines don't")
    if " " in target or not target.startswith("/"):
        raise ProtocolError(f"the request can't be sent: {target!r} is no target")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def piece_of(data: bytes) -> bytes:
    """One piece of a body whose length isn't known; must not be empty, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)

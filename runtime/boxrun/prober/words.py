"""What a probe that took too long is reported with. Source: moby daemon/health.go, Go's time.Duration.String."""

from __future__ import annotations

from boxrun.prober.protocol import MAX_OUTPUT, TRUNCATED


def duration(nanoseconds: int) -> str:
    """A length of time as Go prints it: ``30s``, ``1m30s``, ``1.5s``, ``250ms``."""
    if nanoseconds < 1000:
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    if nanoseconds < 1_000_000:
        return _decimal(nanoseconds, 1000) + "µs"
    if nanoseconds < 1_000_000_000:
        return _decimal(nanoseconds, 1_000_000) + "ms"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    seconds = _decimal(rest, 1_000_000_000) + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def limited(output: bytes | bytearray) -> bytes:
    """Output as it is kept: its beginning, marked where it was longer."""
    return bytes(output) if len(output) <= MAX_OUTPUT else bytes(output[:MAX_OUTPUT]) + TRUNCATED


def exceeded(timeout: int, output: bytes) -> bytes:
    """What is kept of a probe that was killed after ``timeout`` ns."""
    message = f"Health check exceeded timeout ({duration(timeout)})".encode()
    return message + b": " + output if output else message

"""Resource limits as ``--ulimit`` names them. Source: github.com/docker/go-units, ulimit.go."""

from __future__ import annotations

NAMES = frozenset(
    {"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"}
    | {"rss", "rtprio", "rttime", "sigpending", "stack"}
)

"""The Docker Engine API's message types, each written down once and used by both the client and the daemon.

Attributes are snake_case; on the wire they carry Docker's names. ``None`` is accepted wherever Go clients send
``null`` for an empty slice or map. Fields that Docker omits when empty default to ``msgspec.UNSET``.
Source: Docker Engine API v1.51, ``definitions``.
"""

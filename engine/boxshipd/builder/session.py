"""What the client of a build supplies while it runs, in BuildKit's sense of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Session(Protocol):
    """The client's side of a build. Each method raises ``NotFound`` for what the client doesn't have."""

    async def context(self, name: str) -> AsyncIterator[bytes]:
        """A context as a tar stream, compressed or not: ``context``, or one named with ``--build-context``."""

    async def secret(self, secret_id: str) -> bytes:
        """A secret's bytes."""

    async def agent(self, agent_id: str) -> int:
        """A new connection to an SSH agent: a stream socket's descriptor, which is the caller's to close."""

    async def receive(self, destination: str, chunks: AsyncIterator[bytes]) -> None:
        """Send an exported archive to the client, who writes it, or unpacks it, to ``destination``.

        It returns when the client has it safely.
        """

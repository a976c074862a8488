"""What a later supervisor must know of networks, in the run directory.

network/networks/<id>        a network's ``NetworkSpec``
network/sandboxes/<id>       a container's ``Sandbox``, written before the container can be running
network/forwarding           what we changed for the host to forward, and the interfaces that it had before
network/policy               the ``Policy``
network/dns.sock             where the name server answers
network/relay.sock           where the relay does

The run directory is on a tmpfs: after the machine's restart nothing of it is there, nor is any of what it tells of.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TypeVar

import msgspec

from boxrun.network.contract import NetworkSpec, Policy, Sandbox

_T = TypeVar("_T", NetworkSpec, Sandbox)
_encode = msgspec.json.Encoder().encode


class Forwarding(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that we have turned on, and the interfaces that there were before."""

    settings: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()


class NetworkState:
    """The files below ``network`` in a run directory."""

    def __init__(self, run: str) -> None:
        """Makes the directories. Raises OSError."""
        self.path = f"{run}/network"
        for path in (self.path, f"{self.path}/networks", f"{self.path}/sandboxes"):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)

    def networks(self) -> list[NetworkSpec]:
        """Every network that was ensured."""
        return self._all("networks", NetworkSpec)

    def sandboxes(self) -> list[Sandbox]:
        """Every sandbox that was plugged."""
        return self._all("sandboxes", Sandbox)

    def put_network(self, network: NetworkSpec) -> None:
        """Note a network. Raises OSError."""
        self._write(f"networks/{network.id}", network)

    def drop_network(self, identity: str) -> None:
        """Forget a network."""
        self._unlink(f"networks/{identity}")

    def put_sandbox(self, sandbox: Sandbox) -> None:
        """Note a sandbox. Raises OSError."""
        self._write(f"sandboxes/{sandbox.container}", sandbox)

    def drop_sandbox(self, container: str) -> None:
        """Forget a sandbox."""
        self._unlink(f"sandboxes/{container}")

    @property
    def forwarding(self) -> Forwarding:
        """What we have changed for the host to forward."""
        try:
            with open(f"{self.path}/forwarding", "rb") as file:
                return msgspec.json.decode(file.read(), type=Forwarding)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Forwarding()

    def note_forwarding(self, forwarding: Forwarding) -> None:
        """Note that. Raises OSError."""
        self._write("forwarding", forwarding)

    @property
    def policy(self) -> Policy:
        """The policy that was set last."""
        try:
            with open(f"{self.path}/policy", "rb") as file:
                return msgspec.json.decode(file.read(), type=Policy)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Policy()

    def put_policy(self, policy: Policy) -> None:
        """Note the policy. Raises OSError."""
        self._write("policy", policy)

    def clear(self) -> None:
        """Remove everything."""
        for name in ("networks", "sandboxes"):
            for entry in list(os.scandir(f"{self.path}/{name}")):
                self._unlink(f"{name}/{entry.name}")
            with suppress(OSError):
                os.rmdir(f"{self.path}/{name}")
        for name in ("forwarding", "policy", "dns.sock", "dns.log", "relay.sock", "relay.log"):
            self._unlink(name)
        with suppress(OSError):
            os.rmdir(self.path)

    def _all(self, name: str, kind: type[_T]) -> list[_T]:
        found = []
        for entry in list(os.scandir(f"{self.path}/{name}")):
            try:
                with open(entry.path, "rb") as file:
                    found.append(msgspec.json.decode(file.read(), type=kind))
            except (OSError, msgspec.MsgspecError):
                self._unlink(f"{name}/{entry.name}")  # half-written by a crash: nothing was answered
        return found

    def _write(self, name: str, message: msgspec.Struct) -> None:
        directory, _, base = name.rpartition("/")
        temporary = f"{self.path}/{directory}/.{base}" if directory else f"{self.path}/.{base}"
        with open(temporary, "wb", buffering=0) as file:
            data = memoryview(_encode(message))
            while data:
                data = data[file.write(data) :]
        os.rename(temporary, f"{self.path}/{name}")

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}/{name}")

"""What containers are called on their networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import ip_address

from boxrun.network.contract import NamesChange, Record
from boxrun.network.dns.codec import Address


class NetworkNames:
    """The names on one network."""

    def __init__(self) -> None:
        self.name = ""
        self._records: dict[str, Record] = {}
        self._addresses: defaultdict[str, dict[str, tuple[Address, ...]]] = defaultdict(dict)
        self._reverse: dict[Address, str] = {}

    def change(self, change: NamesChange) -> None:
        """Names have changed."""
        if change.whole:
            for endpoint in list(self._records):
                self._drop(endpoint)
        for endpoint in change.gone:
            self._drop(endpoint)
        for record in change.records:
            self._drop(record.endpoint)
            self._records[record.endpoint] = record
            addresses = tuple(ip_address(address) for address in record.addresses)
            for name in record.names:
                self._addresses[name.lower()][record.endpoint] = addresses
            for address in addresses:
                self._reverse[address] = record.name

    def _drop(self, endpoint: str) -> None:
        record = self._records.pop(endpoint, None)
        if record is None:
            return
        for name in {name.lower() for name in record.names}:
            found = self._addresses[name]
            found.pop(endpoint, None)
            if not found:
                del self._addresses[name]
        for text in record.addresses:
            address = ip_address(text)
            if self._reverse.get(address) == record.name:
                del self._reverse[address]

    def find(self, name: str) -> list[Address]:
        """The addresses of a name in lower case."""
        found = self._addresses.get(name)
        return [address for addresses in found.values() for address in addresses] if found else []

    def owner(self, address: Address) -> str:
        """The name of whoever has an address, with the network's behind it; empty where nobody has."""
        name = self._reverse.get(address)
        return f"{name}.{self.name}" if name and self.name else name or ""


class Directory:
    """The names on all networks."""

    def __init__(self) -> None:
        self._networks: defaultdict[str, NetworkNames] = defaultdict(NetworkNames)

    def change(self, change: NamesChange) -> None:
        """Names of a network have changed."""
        self._networks[change.network].change(change)

    def call(self, network: str, name: str) -> None:
        """A network's own name."""
        self._networks[network].name = name.lower()

    def forget(self, network: str) -> None:
        """A network is gone."""
        self._networks.pop(network, None)

    def find(self, name: str, networks: Iterable[str]) -> list[Address] | None:
        """The addresses of a name as seen from these networks; None: there is no such name."""
        head, _, tail = name.rpartition(".")
        found: list[Address] = []
        for network in networks:
            names = self._networks.get(network)
            if names is None:
                continue
            found += names.find(name)
            if head and tail == names.name:
                found += names.find(head)
        if not found:
            return None
        return list(dict.fromkeys(found))

    def owners(self, address: Address, networks: Iterable[str]) -> list[str]:
        """The names of whoever has an address on one of these networks."""
        known = (self._networks[network] for network in networks if network in self._networks)
        return [owner for names in known if (owner := names.owner(address))]

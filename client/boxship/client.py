"""The SDK: a daemon's API with typed messages.

    with Client() as client:
        container = client.containers.create(CreateRequest(image="boxship/base", cmd=["sleep", "60"]))
        client.containers.start(container.id)
        print(client.containers.inspect(container.id).state.status)

Every method raises ``boxship.errors.APIError`` where the daemon refuses and ``DaemonUnreachable`` where nobody answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from boxship.api import API
from boxship.credentials.account import HUB_KEY, Account, hostname
from boxship.http.dial import TLSFiles
from boxship.resources.accounts import Accounts
from boxship.resources.containers import Containers
from boxship.resources.filters import encode_filters
from boxship.resources.images import Images
from boxship.resources.volumes import Volumes
from boxship.types.events import EventMessage
from boxship.types.registry import AuthResponse
from boxship.types.system import DiskUsage, Info, Version


class Client:
    """A daemon. A context manager that closes its connections.

    Args:
        host: the daemon's address, None for ``BOXSHIP_HOST``, ``DOCKER_HOST`` or the default.
        tls: how to speak TLS over ``tcp://``.
        config: the directory of the configuration file with registry accounts, empty for the command line's.

    Attributes:
        api: the API below the types, for what they don't cover.
        containers: the daemon's containers.
        images: its images.
        volumes: its volumes.
        accounts: the registry accounts that pulls and pushes use.

    Raises:
        InvalidAddress: the address can't be understood.
    """

    def __init__(self, host: str | None = None, *, tls: TLSFiles | None = None, config: str = "") -> None:
        self.api = API(host, tls)
        self.containers = Containers(self.api)
        self.accounts = Accounts(config)
        self.images = Images(self.api, self.accounts)
        self.volumes = Volumes(self.api)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.api.close()

    def ping(self) -> bool:
        """Whether the daemon answers; raises DaemonUnreachable where it doesn't."""
        return self.api.raw("GET", "/_ping") == b"OK"

    def version(self) -> Version:
        """The daemon's version and its parts'."""
        return msgspec.json.decode(self.api.raw("GET", "/version"), type=Version)

    def info(self) -> Info:
        """What the daemon says of itself and its machine."""
        return msgspec.json.decode(self.api.raw("GET", "/info"), type=Info)

    def df(self) -> DiskUsage:
        """What takes the daemon's disk."""
        return msgspec.json.decode(self.api.raw("GET", "/system/df"), type=DiskUsage)

    def login(self, username: str, password: str, registry: str = "") -> AuthResponse:
        """Log in to a registry; this client then pulls and pushes with the account. Nothing is written to a file.

        Args:
            username: the user's name.
            password: the password or a personal access token.
            registry: its host and port, empty for Docker Hub.

        Raises:
            Unauthorized: the registry refuses the account.
        """
        server = hostname(registry) if registry not in ("", "docker.io") else HUB_KEY
        account = Account(server, username, password)
        answer = msgspec.json.decode(
            self.api.raw("POST", "/auth", None, json.dumps(account.body()).encode()), type=AuthResponse
        )
        if answer.identity_token:
            account = account._replace(password="", identity_token=answer.identity_token)
        self.accounts.remember(account)
        return answer

    def events(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[EventMessage]:
        """What happens, as it happens; without ``until`` it never ends.

        Args:
            since: begin with events of this time on, in seconds since the epoch.
            until: end at this time.
            filters: names to values, any of which may match.
        """
        query = {"since": since, "until": until, "filters": encode_filters(filters)}
        with self.api.open("GET", "/events", query) as response:
            decoder = msgspec.json.Decoder(EventMessage)
            for line in response.lines():
                if line.strip():
                    yield decoder.decode(line)

    def shutdown(self) -> None:
        """Stop every container in order, then the daemon and all its helpers."""
        self.api.call("POST", "/system/shutdown")

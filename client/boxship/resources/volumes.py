"""Volumes in the SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from boxship.api import API
from boxship.http.target import quote
from boxship.resources.filters import encode_filters
from boxship.types.volumes import Volume, VolumeCreateRequest, VolumeListResponse, VolumePruneResponse


class Volumes:
    """A daemon's volumes, each named by its name.

    Args:
        api: the daemon.
    """

    def __init__(self, api: API) -> None:
        self._api = api

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Create a volume; one that exists already is given as it is.

        Args:
            name: its name, empty for one of the daemon's choice.
            driver: its driver.
            options: the driver's options (``type``, ``device`` and ``o``).
            labels: its labels.
        """
        request = VolumeCreateRequest(
            name=name, driver=driver, driver_opts=dict(options) if options else None, labels=dict(labels) if labels else None
        )
        body = msgspec.json.encode(request)
        return msgspec.json.decode(self._api.raw("POST", "/volumes/create", None, body), type=Volume)

    def inspect(self, name: str) -> Volume:
        """Everything about a volume."""
        return msgspec.json.decode(self._api.raw("GET", f"/volumes/{quote(name)}"), type=Volume)

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[Volume]:
        """The volumes, by name.

        Args:
            filters: names (``dangling``, ``driver``, ``label``, ``name``) to values.
        """
        answer = self._api.raw("GET", "/volumes", {"filters": encode_filters(filters)})
        return msgspec.json.decode(answer, type=VolumeListResponse).volumes or []

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container uses; with ``force`` one that isn't there is fine."""
        self._api.call("DELETE", f"/volumes/{quote(name)}", {"force": force or None})

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> VolumePruneResponse:
        """Remove the volumes that no container uses: those without a name, and with the filter ``all`` every one."""
        answer = self._api.raw("POST", "/volumes/prune", {"filters": encode_filters(filters)})
        return msgspec.json.decode(answer, type=VolumePruneResponse)

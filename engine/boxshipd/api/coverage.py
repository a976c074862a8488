"""What of the Engine API is covered: every operation of v1.51, and either that it is there or what is missing for it.

The router is built from this table, and so is the documentation's coverage list.
Source: Docker Engine API v1.51, every ``operationId`` with its method and path.
"""

from __future__ import annotations

from typing import NamedTuple

from boxshipd import __version__

RELEASE = ".".join(__version__.split(".")[:2])

_NO_BUILDKIT = "BuildKit's sessions"
_NO_NETWORKS = "user-defined networks"
_NO_PLUGINS = "plug-ins"
_NO_SWARM = "Swarm"


class Operation(NamedTuple):
    """One operation of the API.

    Attributes:
        name: its ``operationId``.
        method: of HTTP.
        path: with the name's place written as ``{id}`` or ``{name}``.
        lacks: the missing feature that it is refused for; empty where the operation is covered.
        extension: whether it is Boxship's own rather than Docker's.
        limits: what of a covered operation is refused or different, for the documentation.
    """

    name: str
    method: str
    path: str
    lacks: str = ""
    extension: bool = False
    limits: str = ""

    @property
    def refusal(self) -> str:
        """What a client that asks for it is told."""
        # "not supported" is what Docker's command line looks for before it goes on to the next kind of object in `inspect`.
        return f"{self.name} ({self.lacks}) is not supported in Boxship {RELEASE}"


OPERATIONS: tuple[Operation, ...] = (
    Operation("ContainerList", "GET", "/containers/json"),
    Operation(
        "ContainerCreate",
        "POST",
        "/containers/create",
        limits="takes the annotation or label `io.boxship.health-on-failure` (none, kill, restart, stop) beside Docker's; "
        "a network has to be there already",
    ),
    Operation("ContainerInspect", "GET", "/containers/{id}/json"),
    Operation("ContainerTop", "GET", "/containers/{id}/top"),
    Operation("ContainerLogs", "GET", "/containers/{id}/logs"),
    Operation("ContainerChanges", "GET", "/containers/{id}/changes"),
    Operation("ContainerExport", "GET", "/containers/{id}/export"),
    Operation(
        "ContainerStats",
        "GET",
        "/containers/{id}/stats",
        limits="`percpu_usage` is there where cgroup v1 has `cpuacct` in one hierarchy with `cpu`",
    ),
    Operation("ContainerResize", "POST", "/containers/{id}/resize"),
    Operation("ContainerStart", "POST", "/containers/{id}/start"),
    Operation("ContainerStop", "POST", "/containers/{id}/stop"),
    Operation("ContainerRestart", "POST", "/containers/{id}/restart"),
    Operation("ContainerKill", "POST", "/containers/{id}/kill"),
    Operation("ContainerUpdate", "POST", "/containers/{id}/update"),
    Operation("ContainerRename", "POST", "/containers/{id}/rename"),
    Operation("ContainerPause", "POST", "/containers/{id}/pause"),
    Operation("ContainerUnpause", "POST", "/containers/{id}/unpause"),
    Operation("ContainerAttach", "POST", "/containers/{id}/attach"),
    Operation("ContainerAttachWebsocket", "GET", "/containers/{id}/attach/ws"),
    Operation("ContainerWait", "POST", "/containers/{id}/wait"),
    Operation("ContainerDelete", "DELETE", "/containers/{id}"),
    Operation("ContainerArchiveInfo", "HEAD", "/containers/{id}/archive"),
    Operation("ContainerArchive", "GET", "/containers/{id}/archive"),
    Operation("PutContainerArchive", "PUT", "/containers/{id}/archive"),
    Operation("ContainerPrune", "POST", "/containers/prune"),
    Operation("ImageList", "GET", "/images/json"),
    Operation(
        "ImageBuild",
        "POST",
        "/build",
        limits="Dockerfiles are BuildKit's; `version=2`, BuildKit's own API, is refused. `rm` and `forcerm` change nothing, as "
        "there are no intermediate containers or images. `squash` needs no experimental mode. Of `outputs`, only images "
        "(`moby`). With `version=boxship` the body is a request of ours in JSON, and the answer tells all steps as they happen",
    ),
    Operation("BuildPrune", "POST", "/build/prune"),
    Operation("ImageCreate", "POST", "/images/create"),
    Operation("ImageInspect", "GET", "/images/{name}/json"),
    Operation("ImageHistory", "GET", "/images/{name}/history"),
    Operation("ImagePush", "POST", "/images/{name}/push"),
    Operation("ImageTag", "POST", "/images/{name}/tag"),
    Operation("ImageDelete", "DELETE", "/images/{name}"),
    Operation("ImageSearch", "GET", "/images/search"),
    Operation("ImagePrune", "POST", "/images/prune"),
    Operation("SystemAuth", "POST", "/auth"),
    Operation("SystemInfo", "GET", "/info"),
    Operation("SystemVersion", "GET", "/version"),
    Operation("SystemPing", "GET", "/_ping"),
    Operation("SystemPingHead", "HEAD", "/_ping"),
    Operation("ImageCommit", "POST", "/commit"),
    Operation("SystemEvents", "GET", "/events"),
    Operation("SystemDataUsage", "GET", "/system/df"),
    Operation("ImageGet", "GET", "/images/{name}/get"),
    Operation("ImageGetAll", "GET", "/images/get"),
    Operation("ImageLoad", "POST", "/images/load"),
    Operation("ContainerExec", "POST", "/containers/{id}/exec"),
    Operation("ExecStart", "POST", "/exec/{id}/start"),
    Operation("ExecResize", "POST", "/exec/{id}/resize"),
    Operation("ExecInspect", "GET", "/exec/{id}/json"),
    Operation("VolumeList", "GET", "/volumes"),
    Operation("VolumeCreate", "POST", "/volumes/create"),
    Operation("VolumeInspect", "GET", "/volumes/{name}"),
    Operation("VolumeUpdate", "PUT", "/volumes/{name}"),
    Operation("VolumeDelete", "DELETE", "/volumes/{name}"),
    Operation("VolumePrune", "POST", "/volumes/prune"),
    Operation("NetworkList", "GET", "/networks"),
    Operation("NetworkInspect", "GET", "/networks/{id}"),
    Operation("NetworkDelete", "DELETE", "/networks/{id}"),
    Operation(
        "NetworkCreate",
        "POST",
        "/networks/create",
        limits="drivers bridge, macvlan and ipvlan (where the kernel has it) with the IPAM drivers default and null; "
        "a driver's option that isn't known is refused",
    ),
    Operation("NetworkConnect", "POST", "/networks/{id}/connect"),
    Operation("NetworkDisconnect", "POST", "/networks/{id}/disconnect"),
    Operation("NetworkPrune", "POST", "/networks/prune"),
    Operation("PluginList", "GET", "/plugins", _NO_PLUGINS),
    Operation("GetPluginPrivileges", "GET", "/plugins/privileges", _NO_PLUGINS),
    Operation("PluginPull", "POST", "/plugins/pull", _NO_PLUGINS),
    Operation("PluginInspect", "GET", "/plugins/{name}/json", _NO_PLUGINS),
    Operation("PluginDelete", "DELETE", "/plugins/{name}", _NO_PLUGINS),
    Operation("PluginEnable", "POST", "/plugins/{name}/enable", _NO_PLUGINS),
    Operation("PluginDisable", "POST", "/plugins/{name}/disable", _NO_PLUGINS),
    Operation("PluginUpgrade", "POST", "/plugins/{name}/upgrade", _NO_PLUGINS),
    Operation("PluginCreate", "POST", "/plugins/create", _NO_PLUGINS),
    Operation("PluginPush", "POST", "/plugins/{name}/push", _NO_PLUGINS),
    Operation("PluginSet", "POST", "/plugins/{name}/set", _NO_PLUGINS),
    Operation("NodeList", "GET", "/nodes", _NO_SWARM),
    Operation("NodeInspect", "GET", "/nodes/{id}", _NO_SWARM),
    Operation("NodeDelete", "DELETE", "/nodes/{id}", _NO_SWARM),
    Operation("NodeUpdate", "POST", "/nodes/{id}/update", _NO_SWARM),
    Operation("SwarmInspect", "GET", "/swarm", _NO_SWARM),
    Operation("SwarmInit", "POST", "/swarm/init", _NO_SWARM),
    Operation("SwarmJoin", "POST", "/swarm/join", _NO_SWARM),
    Operation("SwarmLeave", "POST", "/swarm/leave", _NO_SWARM),
    Operation("SwarmUpdate", "POST", "/swarm/update", _NO_SWARM),
    Operation("SwarmUnlockkey", "GET", "/swarm/unlockkey", _NO_SWARM),
    Operation("SwarmUnlock", "POST", "/swarm/unlock", _NO_SWARM),
    Operation("ServiceList", "GET", "/services", _NO_SWARM),
    Operation("ServiceCreate", "POST", "/services/create", _NO_SWARM),
    Operation("ServiceInspect", "GET", "/services/{id}", _NO_SWARM),
    Operation("ServiceDelete", "DELETE", "/services/{id}", _NO_SWARM),
    Operation("ServiceUpdate", "POST", "/services/{id}/update", _NO_SWARM),
    Operation("ServiceLogs", "GET", "/services/{id}/logs", _NO_SWARM),
    Operation("TaskList", "GET", "/tasks", _NO_SWARM),
    Operation("TaskInspect", "GET", "/tasks/{id}", _NO_SWARM),
    Operation("TaskLogs", "GET", "/tasks/{id}/logs", _NO_SWARM),
    Operation("SecretList", "GET", "/secrets", _NO_SWARM),
    Operation("SecretCreate", "POST", "/secrets/create", _NO_SWARM),
    Operation("SecretInspect", "GET", "/secrets/{id}", _NO_SWARM),
    Operation("SecretDelete", "DELETE", "/secrets/{id}", _NO_SWARM),
    Operation("SecretUpdate", "POST", "/secrets/{id}/update", _NO_SWARM),
    Operation("ConfigList", "GET", "/configs", _NO_SWARM),
    Operation("ConfigCreate", "POST", "/configs/create", _NO_SWARM),
    Operation("ConfigInspect", "GET", "/configs/{id}", _NO_SWARM),
    Operation("ConfigDelete", "DELETE", "/configs/{id}", _NO_SWARM),
    Operation("ConfigUpdate", "POST", "/configs/{id}/update", _NO_SWARM),
    Operation("DistributionInspect", "GET", "/distribution/{name}/json"),
    Operation("Session", "POST", "/session", _NO_BUILDKIT),
    Operation(
        "BuildCancel",
        "POST",
        "/build/cancel",
        extension=True,
        limits="Docker's as well, but not in its description: ends the builds whose `buildid` is `id`",
    ),
    Operation(
        "BuildSession",
        "GET",
        "/build/session",
        extension=True,
        limits="a websocket by which a build with `session=<id>` gets contexts, secrets and SSH agents from its client, and "
        "gives archives to it",
    ),
    Operation("ContainerLogsWebsocket", "GET", "/containers/{id}/logs/ws", extension=True),
    Operation("ContainerStatsWebsocket", "GET", "/containers/{id}/stats/ws", extension=True),
    Operation(
        "DistributionManifest",
        "GET",
        "/distribution/{name}/manifest",
        extension=True,
        limits="the manifest or index of a name in a registry, as it is there: its bytes, `Content-Type` and "
        "`Docker-Content-Digest`",
    ),
    Operation(
        "DistributionManifestPut",
        "PUT",
        "/distribution/{name}/manifest",
        extension=True,
        limits="puts the body, a manifest or an index of type `Content-Type`, into a registry. Of an index, what is not in "
        "that repository yet is taken over from `source`, a name by digest in the same registry, given once for each such "
        "manifest. Answers 201 with `Docker-Content-Digest`",
    ),
    Operation("ExecStartWebsocket", "GET", "/exec/{id}/start/ws", extension=True),
    Operation("SystemEventsWebsocket", "GET", "/events/ws", extension=True),
    Operation("SystemShutdown", "POST", "/system/shutdown", extension=True),
)

"""Which commands there are and where each one's code is. Nothing is imported before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boxship.cli.command import Command

# Name: (module below boxship.cli, attribute, summary).
CONTAINER: dict[str, tuple[str, str, str]] = {
    "attach": ("attach", "ATTACH", "Attach local standard input, output, and error streams to a running container"),
    "commit": ("changed", "COMMIT", "Create a new image from a container's changes"),
    "cp": ("cp", "CP", "Copy files/folders between a container and the local filesystem"),
    "create": ("create", "CREATE", "Create a new container"),
    "diff": ("changed", "DIFF", "Inspect changes to files or directories on a container's filesystem"),
    "exec": ("exec", "EXEC", "Execute a command in a running container"),
    "export": ("changed", "EXPORT", "Export a container's filesystem as a tar archive"),
    "inspect": ("inspect", "INSPECT_CONTAINER", "Display detailed information on one or more containers"),
    "kill": ("lifecycle", "KILL", "Kill one or more running containers"),
    "logs": ("logs", "LOGS", "Fetch the logs of a container"),
    "ls": ("ps", "PS", "List containers"),
    "pause": ("pausing", "PAUSE", "Pause all processes within one or more containers"),
    "port": ("port", "PORT", "List port mappings or a specific mapping for the container"),
    "prune": ("prune", "PRUNE_CONTAINERS", "Remove all stopped containers"),
    "rename": ("lifecycle", "RENAME", "Rename a container"),
    "restart": ("lifecycle", "RESTART", "Restart one or more containers"),
    "rm": ("lifecycle", "RM", "Remove one or more containers"),
    "run": ("run", "RUN", "Create and run a new container from an image"),
    "start": ("start", "START", "Start one or more stopped containers"),
    "stats": ("stats", "STATS", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("lifecycle", "STOP", "Stop one or more running containers"),
    "top": ("top", "TOP", "Display the running processes of a container"),
    "unpause": ("pausing", "UNPAUSE", "Unpause all processes within one or more containers"),
    "update": ("update", "UPDATE", "Update configuration of one or more containers"),
    "wait": ("lifecycle", "WAIT", "Block until one or more containers stop, then print their exit codes"),
}
IMAGE: dict[str, tuple[str, str, str]] = {
    "build": ("build", "BUILD", "Build an image from a Dockerfile"),
    "cp": ("image_cp", "IMAGE_CP", "Copy images from one daemon to another"),
    "history": ("history", "HISTORY", "Show the history of an image"),
    "import": ("archives", "IMPORT", "Import the contents from a tarball to create a filesystem image"),
    "inspect": ("inspect", "INSPECT_IMAGE", "Display detailed information on one or more images"),
    "load": ("archives", "LOAD", "Load an image from a tar archive or STDIN"),
    "ls": ("images", "IMAGES", "List images"),
    "pull": ("pull", "PULL", "Download an image from a registry"),
    "push": ("pull", "PUSH", "Upload an image to a registry"),
    "prune": ("prune", "PRUNE_IMAGES", "Remove unused images"),
    "rm": ("images", "RMI", "Remove one or more images"),
    "save": ("archives", "SAVE", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "tag": ("images", "TAG", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
}
MANIFEST: dict[str, tuple[str, str, str]] = {
    "annotate": ("manifest", "ANNOTATE", "Add additional information to a local image manifest"),
    "create": ("manifest", "CREATE", "Create a local manifest list for annotating and pushing to a registry"),
    "inspect": ("manifest", "INSPECT", "Display an image manifest, or manifest list"),
    "push": ("manifest", "PUSH", "Push a manifest list to a repository"),
    "rm": ("manifest", "REMOVE", "Delete one or more manifest lists from local storage"),
}
BUILDER: dict[str, tuple[str, str, str]] = {
    "build": IMAGE["build"],
    "prune": ("builder", "PRUNE", "Remove build cache"),
}
SYSTEM: dict[str, tuple[str, str, str]] = {
    "df": ("df", "DF", "Show disk usage"),
    "dial-stdio": ("dial_stdio", "DIAL_STDIO", "Proxy the stdio stream to the daemon connection"),
    "events": ("events", "EVENTS", "Get real time events from the server"),
    "info": ("info", "INFO", "Display system-wide information"),
    "prune": ("prune", "PRUNE_SYSTEM", "Remove unused data"),
    "shutdown": ("shutdown", "SHUTDOWN", "Stop every container, then the daemon and all its helpers"),
}
NETWORK: dict[str, tuple[str, str, str]] = {
    "connect": ("network", "CONNECT", "Connect a container to a network"),
    "create": ("network", "CREATE", "Create a network"),
    "disconnect": ("network", "DISCONNECT", "Disconnect a container from a network"),
    "inspect": ("network", "INSPECT", "Display detailed information on one or more networks"),
    "ls": ("network", "LIST", "List networks"),
    "prune": ("network", "PRUNE", "Remove all unused networks"),
    "rm": ("network", "REMOVE", "Remove one or more networks"),
}
VOLUME: dict[str, tuple[str, str, str]] = {
    "create": ("volume", "CREATE", "Create a volume"),
    "inspect": ("volume", "INSPECT", "Display detailed information on one or more volumes"),
    "ls": ("volume", "LIST", "List volumes"),
    "prune": ("volume", "PRUNE", "Remove unused local volumes"),
    "rm": ("volume", "REMOVE", "Remove one or more volumes"),
}
TOP: dict[str, tuple[str, str, str]] = {
    **{name: entry for name, entry in CONTAINER.items() if name not in ("inspect", "ls", "prune")},
    **{name: entry for name, entry in IMAGE.items() if name not in ("cp", "inspect", "ls", "prune", "rm")},
    "ps": CONTAINER["ls"],
    "images": IMAGE["ls"],
    "rmi": IMAGE["rm"],
    "inspect": ("inspect", "INSPECT", "Return low-level information on Docker objects"),
    "events": SYSTEM["events"],
    "info": SYSTEM["info"],
    "completion": ("completion", "COMPLETION", "Print the completion script for bash, zsh or fish"),
    "login": ("login", "LOGIN", "Authenticate to a registry"),
    "logout": ("login", "LOGOUT", "Log out from a registry"),
    "search": ("search", "SEARCH", "Search Docker Hub for images"),
    "version": ("version", "VERSION", "Show the Boxship version information"),
}
GROUPS: dict[str, tuple[str, dict[str, tuple[str, str, str]]]] = {
    "builder": ("Manage builds", BUILDER),
    "container": ("Manage containers", CONTAINER),
    "image": ("Manage images", IMAGE),
    "manifest": ("Manage image manifests and manifest lists", MANIFEST),
    "network": ("Manage networks", NETWORK),
    "system": ("Manage Boxship", SYSTEM),
    "volume": ("Manage volumes", VOLUME),
}
COMMON = ("run", "ps", "build", "images", "version", "info")
HIDDEN = frozenset(("dial-stdio",))
ALIASES: dict[str, dict[str, str]] = {
    "builder": {},
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "manifest": {},
    "network": {"list": "ls", "remove": "rm"},
    "system": {},
    "volume": {"list": "ls", "remove": "rm"},
}
# Commands of Docker's whose feature isn't there.
ABSENT = frozenset(
    [
        "bake",
        "buildx",
        "checkpoint",
        "compose",
        "config",
        "context",
        "node",
        "plugin",
        "secret",
        "service",
        "stack",
        "swarm",
        "trust",
    ]
)
ABSENT_IN_GROUP: dict[str, frozenset[str]] = {
    "builder": frozenset(),
    "container": frozenset(),
    "network": frozenset(),
    "image": frozenset(),
    "manifest": frozenset(),
    "system": frozenset(),
    "volume": frozenset(("update",)),
}


def load(entry: tuple[str, str, str]) -> Command[Any]:
    """Import a command."""
    module, attribute, _ = entry
    command: Command[Any] = getattr(__import__(f"boxship.cli.{module}", fromlist=[attribute]), attribute)
    return command

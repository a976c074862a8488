"""boxship: the command line and the Python SDK of the Boxship container engine.

from boxship import Client

with Client() as client:
    print(client.containers.run("boxship/base", ["echo", "hello"]))
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.client import Client

__version__ = "0.1.0"
__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> object:
    # The command line imports this package too and has no use for the SDK's types.
    if name == "Client":
        from boxship.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

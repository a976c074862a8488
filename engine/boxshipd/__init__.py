"""boxshipd: the daemon. A Docker-compatible REST API, a scheduler, images, and the record of it all."""

__version__ = "0.1.0"

"""boxship: the command line and the Python SDK of the Boxship container engine."""

__version__ = "0.1.0"

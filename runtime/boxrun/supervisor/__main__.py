"""``python -m boxrun.supervisor SETTINGS``: the supervisor itself, its settings in JSON: no command line parser in memory."""

from __future__ import annotations

import sys

import msgspec

from boxrun.errors import BoxrunError
from boxrun.supervisor.server import Settings, serve


def main() -> int:
    """Run a supervisor; returns the exit status."""
    try:
        serve(msgspec.json.decode(sys.argv[1], type=Settings))
    except BoxrunError as error:
        sys.stderr.write(f"boxrun supervisor: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

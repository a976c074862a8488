"""``python -m boxship``."""

from boxship.cli.main import main

main()

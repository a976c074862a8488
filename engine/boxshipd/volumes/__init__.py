"""Local volumes: their records and directories, who uses them, and their first content."""

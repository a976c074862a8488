"""What registries know somebody by: ``config.json``, programs that keep secrets, the header that carries them to the daemon."""

"""Container networks: bridges, sandboxes, the firewall and the name server."""

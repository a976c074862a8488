"""Files between this machine and containers: Docker's rules for where they go, and tar archives."""

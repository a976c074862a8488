"""The client's half of a build: its context, what it supplies on demand, what it shows."""

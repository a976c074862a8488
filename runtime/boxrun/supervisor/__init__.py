"""The supervisor: knows every container of one run directory, and serves the daemon's bus calls."""

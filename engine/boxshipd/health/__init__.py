"""Health checks: what a configuration asks for, what probes have found, and what follows from it."""

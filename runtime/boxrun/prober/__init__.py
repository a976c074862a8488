"""Health probes: one small process for each container that has them, confined as the container's programs are."""

"""From a container's configuration to what the runtime is told: checks, options in Docker's forms, and the spec."""

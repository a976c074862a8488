"""From a container spec to its running program: everything between the shim and execve."""

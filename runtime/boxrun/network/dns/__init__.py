"""The name server of containers: a process that outlives daemon and supervisor, with a pair of sockets in every sandbox."""

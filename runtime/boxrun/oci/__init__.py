"""Running a container by another OCI runtime (runc, crun ...): configuration, bundle, and the calls of its program."""

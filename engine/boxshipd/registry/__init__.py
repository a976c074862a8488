"""The client of image registries: Docker's registry API v2, which is OCI's distribution specification 1.1."""

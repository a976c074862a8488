"""The REST API: Docker's Engine API on aiohttp, one module for each resource."""

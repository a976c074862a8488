"""Manifest lists that are put together here before they go to a registry, kept where Docker's client keeps them."""

"""Turning a layer's archive into an overlay directory, whoever wrote it."""

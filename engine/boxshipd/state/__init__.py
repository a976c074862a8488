"""The record of containers, images, networks and volumes: one SQLite database."""

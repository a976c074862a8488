"""Containers: their records, their states, and everything that is done to them."""

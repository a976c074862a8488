"""Containers on their networks: which they are on, what they publish, and the names by which they find each other."""

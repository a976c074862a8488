"""Containers' log drivers and their options; ``boxshipd.logs`` reads what was written."""

"""Containers' volumes, from their creation to their unmounting."""

"""The terminal: raw mode, detach keys, tables, templates, progress."""

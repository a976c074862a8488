"""Files in and out of containers: archives, exports, changes, commits."""

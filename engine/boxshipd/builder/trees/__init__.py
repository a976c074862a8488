"""Files that operations read: contexts, downloads, repositories, snapshots that are looked into."""

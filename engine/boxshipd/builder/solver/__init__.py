"""Running a graph: what is needed and not in the cache, independent branches side by side."""

"""Building images: from a Dockerfile and a context to an image, an archive or a directory.

    request    api/build.py reads it, ``service`` makes it a job
    front end  ``dockerfile`` reads the text, ``planner`` makes a graph of operations of it; neither touches a file
    solver     ``solver`` runs the graph, independent branches side by side; what is in the cache isn't run
    execution  ``ops`` has one executor for each kind of operation; ``trees`` are the files that they read
    export     ``exporters`` make of the result what was asked for

The graph is BuildKit's in spirit: vertices with digests, whose operations are sources, executions, file changes, merges and
diffs. What a vertex makes is a file system, a stack of layers in the images' own store, or a tree of files that isn't one yet.
A cache key is the operation together with its inputs' *content*, so a hit proves that running it would begin from the same
files.

``errors`` draws the package's errors.
"""

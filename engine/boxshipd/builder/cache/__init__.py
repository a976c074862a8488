"""What is kept of builds, so that they needn't do the same again.

    service    the cache as solver, executors and API know it
    model      a record of it
    layers     the layers that records and running builds keep in the images' own stores
    mounts     directories of ``RUN --mount=type=cache``
    rows       the database's part
    listing    what clients are shown of it
    pruning    which records go when
    policy     the same, by itself, as the daemon's configuration has it
    document   the cache of a build as others may have it
    imported   what others say that keys give
    transfer   taking it there and from there; ``layout`` and ``options`` are its parts

A record says which layers came of which key. Its key is all that counted for them, content included, so what a record gives
is what running would give. It is written to the database when its layers are on the disk, never before: a crash loses records
that are younger than the last synchronisation, and the next start removes what no record names.
"""

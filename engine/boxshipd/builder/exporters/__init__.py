"""What becomes of a build's result.

options        what an output was asked for with
configuration  an image's configuration and history
layers         its layers as they are to be: compressed otherwise, of one time, put into one
image          images and indexes in the daemon's own store
archive        the same as an OCI layout or a Docker archive
files          the root file system as a tar stream
provenance     what the build was made of, as an attestation
"""

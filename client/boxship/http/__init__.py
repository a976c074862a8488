"""HTTP/1.1 to the daemon: addresses, byte streams and connections. The protocol itself is h11's, without any I/O in it."""

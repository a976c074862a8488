"""The daemon's end of the bus: a supervisor is there, is connected to, and can be asked."""

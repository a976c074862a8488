"""Processes beside the supervisor that outlive it (the name server, the relay): how the two are started, meet, and talk."""

"""The relay: published ports that the firewall can't translate are carried by a process (``streams``, ``datagrams``)."""

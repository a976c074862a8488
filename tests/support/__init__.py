"""What the tests share: a private daemon, and a look at what is left on the machine."""

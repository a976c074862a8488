"""Networks of a whole daemon."""

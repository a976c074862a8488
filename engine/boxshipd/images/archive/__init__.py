"""Images as files: what ``load`` and ``import`` read, and what ``save`` writes."""

"""Images: references, content, snapshots, archives, and what the API asks of them."""

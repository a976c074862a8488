"""Networks: which there are, whose each address and port is, and what the runtime is told of them."""

"""What carries out operations: one executor for each kind."""

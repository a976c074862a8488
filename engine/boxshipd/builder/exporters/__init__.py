"""What is made of a build's result."""

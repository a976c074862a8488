"""From instructions to a graph: stages, variables, configurations of images."""

"""Running a graph: what is wanted, as little of it as the cache allows, as much of it side by side as it can be.

solver     the solver, which all builds share
build      one build: its vertices in order, each as soon as its inputs are there
flights    vertices under way, which builds share
outcome    what a vertex has made, as long as somebody uses it
"""

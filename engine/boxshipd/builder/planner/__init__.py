"""From instructions to a graph: stages, variables, configurations of images.

planning        a Dockerfile's text, options and a resolver in, a plan out
stage_graph     stages, what they come from and need of each other (stages), triggers
bases           what stages begin with: images, contexts (named_contexts), nothing
stage_planning  a stage's instructions in order: metadata, running (with mounting), copying (with remote_sources)
turn, state     what an instruction is planned with, and what it changes
"""

from boxshipd.builder.planner.planning import plan

__all__ = ["plan"]

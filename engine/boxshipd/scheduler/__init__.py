"""When work is done: jobs, their order and limits, timers, restart policies."""

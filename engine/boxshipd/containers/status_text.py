"""The words ``ps`` has for a container's state. Source: moby container/state.go, docker/go-units duration.go."""

from __future__ import annotations

from boxshipd.containers.model import State
from boxshipd.health.view import suffix


def human_duration(seconds: float) -> str:
    """A length of time in words (``About a minute``, ``3 hours``)."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def status_text(state: State, now: int) -> str:
    """A state in words; ``now`` in ns since the epoch."""
    if state.running:
        if state.restarting:
            return f"Restarting ({state.exit_code}) {human_duration((now - state.finished_at) / 1e9)} ago"
        return f"Up {human_duration((now - state.started_at) / 1e9)}{' (Paused)' if state.paused else suffix(state.health)}"
    if state.removing:
        return "Removal In Progress"
    if state.dead:
        return "Dead"
    if not state.started_at:
        return "Created"
    if not state.finished_at:
        return ""
    return f"Exited ({state.exit_code}) {human_duration((now - state.finished_at) / 1e9)} ago"

"""Run a verb on another machine, over the system's ssh."""

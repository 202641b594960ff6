"""The command line, the one-shot run and its report; no logic of its own."""

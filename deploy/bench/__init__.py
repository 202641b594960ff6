"""How long an engine takes on this machine, alone and against another."""

"""What machine this is: processor, GPU, board, clocks, energy, and which runtimes work on it."""

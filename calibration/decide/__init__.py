"""From logits to calibrated probabilities and decisions, fitted on val."""

"""Pictures in, label names and probabilities out."""

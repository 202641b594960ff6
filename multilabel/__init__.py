"""What every stage agrees on: labels, pictures, metrics, artifacts. No torch on this floor."""

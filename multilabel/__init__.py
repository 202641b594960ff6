"""What every stage shares: labels, pictures, metrics, artifacts. Nothing in this package needs torch."""

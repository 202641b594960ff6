"""From teacher to student: models, losses and the training loop. This is the only package that requires torch."""

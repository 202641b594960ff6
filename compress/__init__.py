"""Teacher to student: models, losses and the training loop. The one room that is made of torch."""

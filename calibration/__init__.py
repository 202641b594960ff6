"""What is fitted on pictures after training: which pictures to calibrate on, and INT8 graphs a target."""

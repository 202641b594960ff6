"""What is fitted on pictures after training: the choice of calibration pictures, and INT8 graphs for each target."""

"""Whether an engine is still the model it came from: logits, decisions and mAP on real pictures."""

"""From a student to engines on a device: build, open, verify, time, tag."""

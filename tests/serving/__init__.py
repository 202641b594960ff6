"""A service around engines, as somebody else would write it: threads, forked workers, a bundle that is replaced."""

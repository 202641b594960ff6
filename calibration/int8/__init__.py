"""INT8 graphs, one recipe per target, found by a search on val."""

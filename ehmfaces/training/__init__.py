"""Training loops and their parts."""

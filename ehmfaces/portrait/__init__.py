"""From a cut-out to the finished portrait of a game."""

"""From people to a finished pack of portraits."""

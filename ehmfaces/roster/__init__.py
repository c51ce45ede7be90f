"""From a roster file to people."""

"""From portraits to training sets."""

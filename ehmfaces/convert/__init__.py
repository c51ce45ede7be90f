"""Foreign checkpoints, read as data: nothing that is in them is ever imported, called or run."""

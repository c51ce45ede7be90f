"""Foreign checkpoints, read as data: nothing that is in them is ever imported, called or run.

Knows no Hub and no pipeline.
"""

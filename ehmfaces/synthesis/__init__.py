"""Ways to compute ws -> picture with one network: engines, number formats, and exported graphs.

Knows no seed, file or command.
"""

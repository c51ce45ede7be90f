"""Lets `python -m ehmfaces` do what `ehmfaces` does."""

from ehmfaces.cli import main

main()

"""How good a model is: one metric per file, math only."""

"""Arithmetic on latents: truncation, mixing, interpolation. Knows arrays, not networks or pictures."""

"""Weights in their canonical form: names, shapes, starts, and the archive."""

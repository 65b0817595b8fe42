"""Vectors that have left a framework, on disk."""

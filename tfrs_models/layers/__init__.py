"""Layers: what towers are made of."""

"""Layers that towers are made of: features, dense layers, dropout, normalisation."""

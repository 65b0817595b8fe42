"""Encoders: features in, one vector a query or candidate out."""

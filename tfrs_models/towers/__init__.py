"""Towers: encoded features -> vectors."""

"""Indexes that only this stack offers."""

"""Losses: pure functions of logits."""

"""Negatives: which candidates stand in a query's row of logits, and which are masked."""

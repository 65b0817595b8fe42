"""Exact metrics over the whole catalogue, with baselines, intervals and slices beside them."""

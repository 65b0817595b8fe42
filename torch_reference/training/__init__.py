"""Model, optimisers, clipping, trainer."""

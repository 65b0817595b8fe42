"""Tasks: vectors in, one scalar loss out, by the order on the logits."""

"""Training: one optimiser step, and the state it goes on from."""

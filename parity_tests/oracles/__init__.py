"""Float64 NumPy, written from the definitions and the papers, not from either stack; gradients by hand."""

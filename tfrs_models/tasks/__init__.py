"""Tasks: vectors -> loss, the negatives included."""

"""What each query is told apart from: the logits of other candidates, corrected and masked."""

"""From raw rows to training batches: sources, positives, split, vocabularies, features, histories, batches."""

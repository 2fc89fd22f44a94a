"""Records into rows of tokens and batches."""

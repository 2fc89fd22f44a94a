"""From files and generated sets to batches of padded token rows."""

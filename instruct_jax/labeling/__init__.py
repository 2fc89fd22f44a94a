"""From prompts and policies to rankings: who answers, who ranks, one job."""

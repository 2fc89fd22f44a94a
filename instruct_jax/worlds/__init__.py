"""Where prompts, demonstrations and judgments come from."""

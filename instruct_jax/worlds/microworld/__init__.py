"""The embedded world: words, corpus, prompts, judge, labelers, tasks."""

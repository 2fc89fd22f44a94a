"""The embedded world: a small English in which the whole paper happens."""

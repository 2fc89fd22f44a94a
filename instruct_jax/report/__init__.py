"""One page that shows what a chain of runs made."""

"""People in the loop: a server that collects demonstrations and rankings."""

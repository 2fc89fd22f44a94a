"""What stands on nothing of ours: errors, the terminal, command lines."""

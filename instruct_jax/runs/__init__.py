"""Run folders: what they hold, what they need, and how they are built."""

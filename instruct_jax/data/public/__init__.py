"""The shapes in which human feedback is published, and their conversion."""

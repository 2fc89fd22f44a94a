"""The shapes in which human feedback is published, a file each."""

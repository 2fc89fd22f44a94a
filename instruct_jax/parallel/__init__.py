"""Many devices and many processes: meshes, checkpoints."""

"""Checkpoints in Hugging Face format, read and written without torch."""

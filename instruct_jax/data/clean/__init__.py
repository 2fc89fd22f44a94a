"""Hygiene of people's data: duplicates, users, splits, personal data."""

"""Responses and scores of trained networks."""

"""Tokenizers that come with pretrained models, from the files beside them."""

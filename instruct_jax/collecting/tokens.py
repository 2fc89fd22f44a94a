"""Tokens of invitations: what a link holds, and what is kept of it.

Of a token only its SHA-256 is kept. It has 256 random bits, so that no salt
and no slow hash is needed: nobody can try them all.
"""

import hashlib
import hmac
import secrets

_BYTES = 32


def new() -> str:
  """A token of 43 characters that may stand in an address."""
  return secrets.token_urlsafe(_BYTES)


def hashed(token: str) -> str:
  """What is kept of a token: its SHA-256, in hexadecimal.

  Takes any text, also one that is no token, or is not Unicode.
  """
  return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_same(hash_one: str, hash_two: str) -> bool:
  """Whether two hashes are equal, in a time that does not tell where not."""
  return hmac.compare_digest(hash_one, hash_two)

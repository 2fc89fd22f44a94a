"""Errors addressed to a person: what is wrong, where, what would be right."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """Bad input. The command lines print its message alone and exit with 2."""


class Diverged(Exception):
  """Training stopped after too many non-finite updates in a row (exit 3)."""


def unknown(
  what: str, name: str, known: Iterable[str], *, show: int = 40
) -> UserError:
  """An error for a name that does not exist, with the nearest one suggested.

  All names are listed where they are at most `show`, else the nearest.
  """
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=min(show, 5), cutoff=0.5)
  hint = f" Did you mean '{near[0]}'?" if near else ""
  label, listed = ("Known", known) if len(known) <= show else ("Near", near)
  names = f" {label}: {', '.join(listed)}." if listed else ""
  return UserError(f"unknown {what} '{name}'.{hint}{names}")

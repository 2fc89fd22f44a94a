"""What a labeler's browser sends beside an answer: for what, how long, flags.

Of scripts (JSON) every key must be known; a form's fields are the page's.
"""

import re
from collections.abc import Sequence
from typing import Any

from instruct_jax.collecting import kinds, store, visits

_MOST_SECONDS = 1e6
_MOST_DIGITS = 18  # what the database can count to has 19


def assignment(visit: visits.Visit) -> store.Assignment:
  """The assignment that something is sent for; Refused for another's."""
  assert visit.labeler is not None
  given = visit.body.get("assignment")
  if isinstance(given, str) and re.fullmatch("[0-9]{1,18}", given):
    given = int(given)
  if isinstance(given, bool) or not isinstance(given, int):
    raise visits.Problem(422, "Which assignment? Its number must be there")
  if not 0 <= given < 10**_MOST_DIGITS:
    raise store.Refused("this task was not given to you")
  return visit.store.assignment(visit.labeler.id, given)


def open_one(visit: visits.Visit) -> int | None:
  """The assignment that a page had open, 0 for none; None: it does not say."""
  given = visit.body.get("open")
  if given is None:
    return None
  if isinstance(given, str) and re.fullmatch("[0-9]{1,18}", given):
    given = int(given)
  if isinstance(given, bool) or not isinstance(given, int):
    raise visits.Problem(422, "Which task was open? Its number must be there")
  return given


def seconds(visit: visits.Visit, opened: store.Assignment) -> Any:
  """Of attention; of a form, which has no clock, since the task was opened."""
  if "seconds" in visit.body or not visit.is_form:
    return visit.body.get("seconds")
  since = visit.store.clock() - opened.opened_at
  return min(max(since, 0.0), _MOST_SECONDS)


def is_sensitive(visit: visits.Visit) -> bool:
  """The flag for sensitive content; raises kinds.Wrong."""
  given = visit.body.get("sensitive", False)
  if visit.is_form:
    return given is not False
  if not isinstance(given, bool):
    raise kinds.Wrong({"sensitive": "must be true or false"})
  return given


def check_keys(visit: visits.Visit, known: Sequence[str]) -> None:
  """Raises kinds.Wrong for a key that nothing here reads."""
  known = (*known, "csrf", "seconds", "sensitive")
  extra = [name for name in visit.body if name not in known]
  if extra and not visit.is_form:
    name = extra[0][:60].encode("ascii", "replace").decode()
    raise kinds.Wrong({name: f"is none of {', '.join(known)}"})

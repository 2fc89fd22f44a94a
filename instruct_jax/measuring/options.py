"""What people set for one set (`--set_option squadv2.shots=2`), and what sets
count alike."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from instruct_jax.base import errors, outside
from instruct_jax.measuring import choices, contract, models


def whole(bench: contract.Bench, name: str, usual: int, least: int = 0) -> int:
  """A whole number; UserError for anything else."""
  given = bench.options.get(name, str(usual))
  return _whole(f"--set_option {bench.name}.{name}", given, least)


def _whole(flag, given, least):
  if not given.isdecimal() or int(given) < least:
    raise errors.UserError(
      f"{flag}={given}: a whole number from {least} on is right"
    )
  return int(given)


# Options of this name are whole numbers, whatever set has them: what is wrong
# with one is said before anything is measured.
WHOLE = ("shots", "samples", "max_tokens", "timeout", "retries", "workers")


def one_of(bench: contract.Bench, name: str, known: Sequence[str]) -> str:
  """One of these words, the first unless given; UserError for another."""
  given = bench.options.get(name, known[0])
  if given not in known:
    raise errors.unknown(f"--set_option {bench.name}.{name}", given, known)
  return given


def function(
  bench: contract.Bench, name: str, *, lists: int = 1
) -> Callable[..., np.ndarray]:
  """The function 'package.module:function' that an option names.

  It is called with lists of N texts and gives a list of N numbers in 0 .. 1, or
  so many `lists` of these: [N] or [lists, N]. UserError where it does not.
  """
  path = bench.options[name]
  flag = f"--set_option {bench.name}.{name}"
  named = outside.function(path, flag)

  def ask(*texts: Sequence[str]) -> np.ndarray:
    shape = (len(texts[0]),) if lists == 1 else (lists, len(texts[0]))
    with outside.calling(f"{flag}={path}"):
      found = np.asarray(named(*map(list, texts)), np.float64)
    if found.shape != shape or not ((found >= 0) & (found <= 1)).all():
      raise errors.UserError(
        f"{flag}={path}: should give numbers from 0 to 1 of the shape"
        f" {list(shape)}; it gave {str(found)[:80]!r} of {list(found.shape)}"
      )
    return found

  return ask


Named = dict[str, dict[str, str]]


def split(
  pairs: Sequence[str], flag: str, sets: Mapping[str, contract.Set]
) -> Named:
  """{'squadv2': {'shots': '2'}} of ['squadv2.shots=2'].

  What stands behind the set's name is '' where there is none. Raises UserError
  for what is no such pair, a set that is unknown, or one named twice.
  """
  named: Named = {}
  for pair in pairs:
    left, _, value = pair.partition("=")
    name, _, part = left.partition(".")
    if not name or not value:
      raise errors.UserError(f"{flag} {pair}: SET.NAME=VALUE is right")
    if name not in sets:
      raise errors.unknown(flag, name, sets)
    if part in named.setdefault(name, {}):
      raise errors.UserError(f"{flag} {pair}: {left} is named twice")
    named[name][part] = value
  return named


def check(sets: Mapping[str, contract.Set], given: Named) -> None:
  """UserError for an option that a set has not, or no whole number."""
  for name, options in given.items():
    for option, value in options.items():
      if option not in sets[name].options:
        known = sets[name].options
        raise errors.unknown(f"--set_option {name}", option, known)
      if option in WHOLE:
        _whole(f"--set_option {name}.{option}", value, 0)


def counts(said: Sequence[models.Said]) -> dict[str, int]:
  """How many prompts were cut, and how many responses; how many of those were
  not chosen among several as they should have been."""
  found = choices.cut_counts(sum(one.is_cut for one in said))
  others = {
    "responses cut by their length": sum(not one.ended for one in said),
    "responses not chosen, too long for the scorer": sum(
      one.is_unchosen for one in said
    ),
  }
  return found | {what: count for what, count in others.items() if count}

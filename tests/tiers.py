"""Which cases of a test are run every time, and which by hand."""

import pytest


def often(values, *kept):
  """Parameters of a test, tuples where it has several; those not kept: `long`.

  For cases that differ in data rather than in code, each of which compiles
  programs of its own.
  """
  assert set(kept) < set(values), kept
  return [
    pytest.param(
      *(value if isinstance(value, tuple) else (value,)),
      marks=() if value in kept else pytest.mark.long,
    )
    for value in values
  ]

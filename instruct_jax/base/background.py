"""Programs that are compiled while something else is done.

XLA compiles mostly on one core, and lets Python run meanwhile. So programs that
will be needed are traced and lowered in turn, where they are begun, and
compiled in threads; who calls one first waits until it is there. No program is
compiled twice, or otherwise, for that.
"""

import concurrent.futures
from typing import Any

import jax

from instruct_jax.base import compilation

AT_ONCE = 2  # each takes memory, 0.3 GB for a training step
_pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE, "compile")


class Compiled:
  """A jitted function whose compiling can be begun before it is called."""

  def __init__(self, function: jax.stages.Wrapped):
    self._function = function
    self._begun: list[concurrent.futures.Future] = []

  def begin(self, *arguments: Any) -> None:
    """Compiles it for arguments like these; arrays may be their shapes."""
    lowered = self._function.lower(*arguments)
    self._begun.append(_pool.submit(_compile, lowered))

  def __call__(self, *arguments: Any, **named: Any) -> Any:
    """Calls it; what was begun is waited for, and its error raised."""
    while self._begun:
      begun = self._begun.pop(0)
      with compilation.waiting(str(getattr(self._function, "__name__", ""))):
        begun.result()
    return self._function(*arguments, **named)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._function, name)


def _compile(lowered: jax.stages.Lowered) -> None:
  """jax keeps what is compiled for the call of the function that follows."""
  with compilation.beside():
    lowered.compile()

"""The other processes of a job, as the signals and the door know them.

Where a command runs as one process, `current` is None. `parallel.link` puts
itself here once it has joined the others.
"""

from typing import Protocol


class Peers(Protocol):
  """What binds this process to the others."""

  def ask_to_stop(self) -> None:
    """SIGTERM has come to this process: all are to stop."""

  def stops(self) -> bool:
    """Whether all stop here. All ask at the same places, in the same order."""

  def ends(self, code: int, message: str) -> None:
    """Tells the others that, and how, this process ends; waits for theirs."""

  def give_up(self, name: str, seconds: float) -> None:
    """Ends all, as not all came to where they wait for each other."""


current: Peers | None = None

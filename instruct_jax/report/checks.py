"""What the doctor finds in a chain of runs, as the page shows it."""

from collections.abc import Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.doctor import examine, record


def section(folders: Sequence[epath.Path]) -> dict[str, Any] | None:
  """The findings on each run, oldest first, and the names of all examined.

  None where no run of them trained anything: there is nothing to be healthy.
  """
  runs = []
  for folder in folders:
    try:
      runs.append(record.read(folder))
    except errors.UserError:
      continue  # A stage that left nothing behind is not on the page, either.
  if not any(run.log for run in runs):
    return None
  findings = [found for run in runs for found in examine.of_record(run)]
  return {"findings": findings, "runs": [run.name for run in runs]}

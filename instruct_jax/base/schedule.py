"""Stages that several jobs share: what goes first, and when all is done.

A stage can begin when all that it needs is done; a job that is free takes the
one from which the longest way leads to the end (Graham's list scheduling by
critical path, 1969).
"""

import heapq
from collections.abc import Collection, Mapping


def ways(
  needs: Mapping[str, Collection[str]], seconds: Mapping[str, float]
) -> dict[str, float]:
  """Seconds from the begin of each stage to the end of all, at the least.

  Args:
    needs: by stage, in an order in which what a stage needs comes before it;
      what is no key of it is done.
    seconds: that a stage takes.
  """
  after = dict.fromkeys(needs, 0.0)
  found = {}
  for stage in reversed(list(needs)):
    found[stage] = seconds[stage] + after[stage]
    for need in needs[stage]:
      if need in after:
        after[need] = max(after[need], found[stage])
  return found


def end(
  needs: Mapping[str, Collection[str]],
  seconds: Mapping[str, float],
  *,
  running: Collection[str],
  jobs: int,
) -> float:
  """Seconds until all stages are done by so many jobs.

  Args:
    needs: as of `ways`.
    seconds: that a stage takes; of one that is `running`, what is left.
    running: stages that jobs work on now, which are never more than `jobs`.
    jobs: how many work, at least one.
  """
  first = ways(needs, seconds)
  at_work = [(seconds[stage], stage) for stage in running]
  heapq.heapify(at_work)
  free = max(jobs, 1) - len(at_work)
  waiting = [stage for stage in needs if stage not in running]
  left, now = set(needs), 0.0
  while left:
    ready = [stage for stage in waiting if not left.intersection(needs[stage])]
    ready.sort(key=lambda stage: -first[stage])
    for stage in ready[: max(free, 0)]:
      heapq.heappush(at_work, (now + seconds[stage], stage))
      waiting.remove(stage)
      free -= 1
    now, done = heapq.heappop(at_work)
    left.remove(done)
    free += 1
  return now

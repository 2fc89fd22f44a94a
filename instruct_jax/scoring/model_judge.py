"""Which of two answers a model prefers that is asked over an endpoint.

Both orders are asked, since models favour the answer that stands first (or
second): Zheng et al. 2023, arXiv:2306.05685, section 3.3. Where the two
verdicts name different answers it is a tie; where one of them is missing there
is no verdict, and the comparison is counted and left out. Every answer is
appended to a file before the next is looked at, so that nothing is asked and
paid for twice: not after a kill, not for other tables.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors, interrupt, progress, storage
from instruct_jax.parallel import hosts
from instruct_jax.scoring import endpoint as endpoint_lib

_log = logging.getLogger(__name__)

OPTIONS = {"temperature": 0, "max_tokens": 16}
_TASK = """\
You compare two answers, A and B, to an instruction. The better answer does \
what the instruction asks for, says what is true, makes nothing up and harms \
nobody. Neither the order of the answers nor their length counts. Say which is \
better with one of these and nothing else: [[A]], [[B]], or [[C]] where \
neither is."""
_QUESTION = """\
[The instruction]
{prompt}

[Answer A]
{first}

[Answer B]
{second}

[End of the answers] Which is better: [[A]], [[B]], or [[C]] for neither?"""
_NAMED = re.compile(r"\[\[\s*(A|B|C|TIE)\s*\]\]", re.IGNORECASE)
_SHARES = {"A": 1.0, "B": 0.0, "C": 0.5, "TIE": 0.5}  # that A wins
_MOST_FAILURES = 10  # one after another, with no answer between
_KEPT = 2000  # characters of what a model said

Asked = dict[str, Any]  # a line of the file


@dataclasses.dataclass(frozen=True)
class Question:
  """Two answers to a prompt."""

  prompt: str
  first: str
  second: str

  def turned(self) -> "Question":
    """The other order."""
    return Question(self.prompt, self.second, self.first)


def judge(
  endpoint: endpoint_lib.Endpoint,
  questions: Sequence[Question],
  cache: epath.PathLike,
  *,
  workers: int = 4,
) -> tuple[list[float | None], dict[str, int]]:
  """(the share that the first answer wins of each question, what it cost).

  Args:
    endpoint: who is asked.
    questions: two identical answers are a tie, and nobody is asked.
    cache: the file of all answers so far, JSON lines; made if need be.
    workers: questions that are asked at the same time.

  Returns:
    1, 0.5 or 0 for each question, None where there is no verdict; and counts:
    "questions", "identical" (not asked), "contrary" (the two orders named
    different answers), "no_verdict"; of the answers that were needed "answers",
    "nonsense" (no verdict in them), "failed" (there is none), "retries",
    "prompt_tokens" and "completion_tokens" with "answers_without_tokens" where
    the server does not count, and "asked_now", those that were not in the file.

  Raises:
    UserError: an endpoint that refuses everything, or does not answer ten
      questions in a row; what it answered is kept.
    Interrupted: after SIGTERM, likewise.
  """
  endpoint_lib.check(endpoint)
  shares, counts = hosts.once(
    "judge", lambda: _judge(endpoint, questions, epath.Path(cache), workers)
  )
  return shares, counts


def verdict_of(text: str) -> float | None:
  """The share that A wins by what a model said; None for nonsense.

  [[A]], [[B]] or [[C]] somewhere, always the same; or nothing but the letter.
  """
  named = {name.upper() for name in _NAMED.findall(text)}
  bare = text.strip().strip(".*`'\"()[]").strip().upper()
  if not named and bare in _SHARES:
    named = {bare}
  shares = {_SHARES[name] for name in named}
  return shares.pop() if len(shares) == 1 else None


def _judge(endpoint, questions, cache, workers):
  both = [None if q.first == q.second else (q, q.turned()) for q in questions]
  wanted = {
    _digest(endpoint, q): q for orders in both if orders for q in orders
  }
  cache.parent.mkdir(parents=True, exist_ok=True)
  with storage.alone(cache, cache):
    known = {line["key"]: line for line in _read(cache)}
    todo = {key: q for key, q in wanted.items() if key not in known}
    failed = collections.Counter()
    start = len(wanted) - len(todo)
    name = f"answers of {endpoint.model}"
    with progress.Progress(name, len(wanted), start=start) as line:
      every = _asked(endpoint, todo, cache, workers, failed)
      for done, found in enumerate(every, start=start + 1):
        if found is not None:
          known[found["key"]] = found
        line.update(done)
  mine = [known[key] for key in wanted if key in known]
  counts = _counts(mine) | {
    "questions": len(questions),
    "identical": both.count(None),
    "failed": sum(failed.values()),
    "asked_now": len(todo) - sum(failed.values()),
  }
  return _verdicts(endpoint, both, known, counts), counts


def _verdicts(endpoint, both, known, counts):
  """The share of each question; counts "contrary" and "no_verdict"."""
  shares, contrary = [], 0
  for orders in both:
    if orders is None:
      shares.append(0.5)
      continue
    said = [known.get(_digest(endpoint, q), {}).get("share") for q in orders]
    if None in said:
      shares.append(None)
      continue
    first, second = said[0], 1 - said[1]
    contrary += {first, second} == {0.0, 1.0}
    shares.append(first if first == second else 0.5)
  counts["contrary"], counts["no_verdict"] = contrary, shares.count(None)
  return shares


def _asked(
  endpoint: endpoint_lib.Endpoint,
  todo: Mapping[str, Question],
  cache: epath.Path,
  workers: int,
  failed: collections.Counter,
) -> Iterator[Asked | None]:
  """Each answer as it comes, None for a failure, whose reason is counted."""
  stop, writing, in_a_row = threading.Event(), threading.Lock(), 0
  left, running = iter(todo.items()), set()

  def ask(key, question):
    found = _ask(endpoint, key, question, stop)
    if not isinstance(found, str):
      with writing:  # Here, so that what comes after a Ctrl-C is kept, too.
        storage.append(cache, (json.dumps(found) + "\n").encode())
    return found

  pool = concurrent.futures.ThreadPoolExecutor(workers)
  try:
    while True:
      for key, question in left:
        running.add(pool.submit(ask, key, question))
        if len(running) == workers:
          break
      if not running:
        return
      done, _ = concurrent.futures.wait(
        running, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for said in done:
        running.remove(said)
        found = said.result()
        if isinstance(found, str):
          failed[found] += 1
          in_a_row += 1
          if failed[found] == 1:
            _log.warning("warning: no answer: %s", found)
          if in_a_row == _MOST_FAILURES:
            raise errors.UserError(
              f"{in_a_row} questions in a row have no answer, the last:"
              f" {found}. Those that were answered are kept: give the command"
              " again later"
            )
          yield None
        else:
          in_a_row = 0
          yield found
      interrupt.check()
  finally:
    stop.set()
    pool.shutdown(cancel_futures=True)


def _ask(
  endpoint: endpoint_lib.Endpoint,
  key: str,
  question: Question,
  stop: threading.Event,
) -> Asked | str:
  """A line of the file, or why there is none."""
  try:
    said = endpoint_lib.ask(endpoint, _messages(question), stop=stop)
  except endpoint_lib.Failed as error:
    return str(error)
  return {
    "key": key,
    "share": verdict_of(said.text),
    "said": said.text[:_KEPT],
    "prompt_tokens": said.prompt_tokens,
    "completion_tokens": said.completion_tokens,
    "retries": said.retries,
  }


def _messages(question: Question) -> list[dict[str, str]]:
  text = _QUESTION.format(
    prompt=question.prompt, first=question.first, second=question.second
  )
  return [
    {"role": "system", "content": _TASK}, {"role": "user", "content": text}
  ]  # fmt: skip


def _digest(endpoint: endpoint_lib.Endpoint, question: Question) -> str:
  """What an answer is kept under: all that it depends on."""
  asked = (
    endpoint.url.rstrip("/"),
    endpoint.model,
    dict(endpoint.options),
    _messages(question),
  )
  text = json.dumps(asked, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(cache: epath.Path) -> Iterator[Asked]:
  """The lines of the file; a last one that was cut off is taken away."""
  content = cache.read_bytes() if cache.exists() else b""
  whole = content[: content.rfind(b"\n") + 1]
  if whole != content and storage.is_remote(cache):
    storage.write(cache, whole)
  elif whole != content:
    os.truncate(cache, len(whole))  # Its lock stays.
  for number, text in enumerate(whole.splitlines(), start=1):
    try:
      line = json.loads(text)
      is_ours = isinstance(line["key"], str) and "share" in line
    except (ValueError, TypeError, LookupError):
      line, is_ours = {}, False
    if not is_ours:
      raise errors.UserError(
        f"{cache}:{number}: no answer of a judge; move the file away, or name"
        " another folder"
      )
    yield line


def _counts(lines: Sequence[Asked]) -> dict[str, int]:
  """Totals of answers, whenever they were asked for."""
  tokens = ("prompt_tokens", "completion_tokens")
  totals = {name: sum(x.get(name) or 0 for x in lines) for name in tokens}
  return totals | {
    "answers": len(lines),
    "nonsense": sum(x["share"] is None for x in lines),
    "retries": sum(x.get("retries", 0) for x in lines),
    "answers_without_tokens": sum(
      any(x.get(name) is None for name in tokens) for x in lines
    ),
  }

"""How a conversation is shown: responses on stdout, notes on stderr.

In a terminal a response is shown while it grows; elsewhere when it is there.
"""

import contextlib
import dataclasses
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import compilation, streams, typewriter
from instruct_jax.maths import best_of
from instruct_jax.parallel import hosts
from instruct_jax.runs import answers

Rows = Mapping[str, Sequence[answers.Response]]  # by run

_BOLD = "\x1b[1m{}\x1b[0m"
_ERASE = "\r\x1b[K"
# What an indented line has before its text, or before its second column.
_HANGS = re.compile(r"(?: +(?:\S.*?  +)?)?")
_PATIENCE = 1.0  # seconds until a word says what one waits for


@dataclasses.dataclass(frozen=True)
class Display:
  """How to show responses."""

  json: bool = False  # an object a prompt and run
  echo: bool = False  # the prompt before its responses
  several: bool = False  # runs, which are named then

  @property
  def grows(self) -> bool:
    """Whether responses are shown while they grow."""
    return not self.json and sys.stdout.isatty()

  def ask(self, prompt: str) -> None:
    """Shows a prompt before its responses come, where it is to be shown."""
    seen = sys.stdin.isatty() and sys.stdout.isatty()
    if not self.json and (self.echo or not seen):
      text = typewriter.printable(prompt) if sys.stdout.isatty() else prompt
      print(f"> {text}", flush=True)

  def show(
    self, prompt: str, rows: Rows, record: Mapping[str, Any] | None = None
  ) -> None:
    """Responses that are there: a JSON object a run, or lines.

    An object has all keys of the record that the prompt came from.
    """
    for name, responses in rows.items():
      if self.json:
        print(self._object(name, prompt, responses, record), flush=True)
      elif sys.stdout.isatty():
        self.growing(name, len(responses)).finish(responses)
      else:
        for n, response in enumerate(responses):
          print(f"{self._label(name, n, len(responses))}{response}")
    self.close()

  def close(self) -> None:
    """Ends what is shown of a prompt."""
    if not self.json:
      print(flush=True)

  def growing(
    self,
    name: str,
    count: int,
    come: Callable[[], None] = lambda: None,
    *,
    has_remarks: bool = False,
  ) -> "Growing":
    """Shows so many responses of a run while they grow, as `Growing`."""
    heading = name if self.several else ""
    return Growing(heading, count, come, has_remarks)

  def keys(self, *, scored: bool, chosen: bool = False) -> set[str]:
    """The keys that an object has beside its prompt's own; `chosen`: where
    responses are the best of several."""
    ours = {"responses"} | ({"run"} if self.several else set())
    ours |= {"best_of", "kl"} if chosen else set()
    return ours | ({"scores", "terms"} if scored else set())

  def _object(self, name, prompt, responses, record):
    given: dict[str, Any] = {"run": name} if self.several else {}
    n = responses[0].best_of
    ours = self.keys(scored=responses[0].score is not None, chosen=n > 1)
    given |= kept({"prompt": prompt} if record is None else record, ours)
    given["responses"] = [r.text for r in responses]
    if n > 1:
      given |= {"best_of": n, "kl": best_of.kl(n)}
    if responses[0].score is not None:
      given["scores"] = [r.score for r in responses]
      given["terms"] = [r.terms for r in responses]
    return streams.json_line(given)

  def _label(self, name: str, n: int, count: int) -> str:
    number = f"[{n + 1}]" if count > 1 else ""
    run = name if self.several else ""
    label = " ".join(filter(None, (run, number)))
    return f"{label}: " if run else f"{label} " if label else ""


def kept(record: Mapping[str, Any], ours: Collection[str]) -> dict[str, Any]:
  """A record as it stands in the output: a key of `ours` as `given_KEY`."""
  out: dict[str, Any] = {}
  for key, value in record.items():
    while key in ours or key in out:
      key = f"given_{key}"
    out[key] = value
  return out


class Growing:
  """Shows responses in their order, each as far as it will stay."""

  def __init__(
    self,
    heading: str,
    count: int,
    come: Callable[[], None],
    has_remarks: bool = False,
  ):
    """`come` is called before anything is written.

    With remarks a text is not ended before `finish` brings its own.
    """
    self._heading, self._count, self._come = heading, count, come
    self._has_remarks = has_remarks
    self._place = 0
    self._writer: typewriter.Typewriter | None = None

  def watch(self, texts: Sequence[str], ended: Sequence[bool]) -> None:
    """Shows what is new in the texts; one that has ended makes room."""
    for n in range(self._place, len(texts)):
      if self._writer or ended[n] or typewriter.staying(texts[n]):
        self._open(n).show(texts[n])
      if not ended[n] or self._has_remarks or n + 1 == len(texts):
        return
      self._close(texts[n], "")

  def finish(self, responses: Sequence[answers.Response]) -> None:
    """Shows the rest."""
    for n in range(self._place, len(responses)):
      self._open(n)
      self._close(responses[n].text, responses[n].remark)

  def stop(self) -> None:
    """Ends the line that was being written, or that Ctrl-C stands on."""
    self._come()
    stream = sys.stdout if self._writer is not None else sys.stderr
    if stream.isatty():
      print(file=stream, flush=True)

  def _open(self, n: int) -> typewriter.Typewriter:
    self._come()
    if self._writer is None:
      if self._heading and not n:
        plain = os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ
        form = "{}" if plain else _BOLD
        sys.stdout.write(f"{form.format(self._heading)}\n")
      start = f"[{n + 1}] " if self._count > 1 else ""
      self._writer = typewriter.Typewriter(sys.stdout, start=start)
    return self._writer

  def _close(self, text: str, end: str) -> None:
    assert self._writer is not None
    self._writer.finish(text, f"{end}\n")
    self._writer, self._place = None, self._place + 1


@contextlib.contextmanager
def waiting(patience: float = _PATIENCE) -> Iterator[Callable[[], None]]:
  """Says on stderr that a program is compiled, where that takes long.

  Gives what is to be called when there is something to show: the word is
  taken back then, in a terminal.
  """
  done, lock, said = threading.Event(), threading.Lock(), []
  drawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

  def wait():
    late = done.wait(patience)
    while not late and not compilation.is_compiling():
      late = done.wait(0.1)
    with lock:
      if not done.is_set():
        said.append(True)
        note("compiling …", end="" if drawn else "\n")

  def come():
    with lock:
      if not done.is_set() and said and drawn:
        print(_ERASE, end="", file=sys.stderr, flush=True)
      done.set()

  threading.Thread(target=wait, daemon=True).start()
  try:
    yield come
  finally:
    come()


def of_choice(n: int) -> str:
  """What a person should know of the best of n."""
  return (
    f"each answer is of {n} the one that the reward likes best: log {n} -"
    f" {n - 1}/{n} = {best_of.kl(n):.2f} nats from the run's own answers, less"
    " where answers repeat."
  )


def note(message: str, end: str = "\n") -> None:
  """A line for the person, not for who reads the responses."""
  say([f"note: {message}"], end)


def say(lines: Sequence[str], end: str = "\n") -> None:
  """What a command answers; in a terminal lines break between words.

  Of several processes the first one says it.
  """
  if not hosts.is_writer():
    return
  text = "\n".join(lines)
  if sys.stderr.isatty():
    *above, last = text.split("\n")
    for line, stop in (*((line, "\n") for line in above), (last, end)):
      match = _HANGS.match(line)
      hang = match.end() if match else 0
      typewriter.Typewriter(sys.stderr, hang=hang).finish(line, stop)
  else:
    print(text, end=end, file=sys.stderr, flush=True)

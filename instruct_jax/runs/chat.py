"""Conversations with finished runs: prompts in, texts out, side by side.

Responses go to stdout, notes to stderr. Response i to the prompt at place p is
episode p * n + i of its turn: it depends on the seed, the turn and that number,
not on the other prompts.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import rich.console
import rich.table
import rich.text
from etils import epath

from instruct_jax.base import errors, ranges, streams
from instruct_jax.data.read import files, sources, specs
from instruct_jax.inference import respond, rewards, score
from instruct_jax.runs import speaker

ROWS = 64  # of a batch, if so many are asked for

Given = list[tuple[str, str]]  # (where it stands, prompt)
Speakers = dict[str, speaker.Speaker]  # by name


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to sample."""

  temperature: float = 1.0  # 0 is greedy
  top_k: int = 0
  top_p: float = 1.0
  max_tokens: int = 0  # 0: as many as the run was trained for
  n: int = 1  # responses a prompt
  seed: int = 0

  def __post_init__(self):
    for name, row in ranges.SAMPLING.items():
      ranges.require(f"--{name}", getattr(self, name), row)


@dataclasses.dataclass(frozen=True)
class Display:
  """How to show responses."""

  json: bool = False  # an object a prompt and run
  echo: bool = False  # the prompt before its responses


@dataclasses.dataclass(frozen=True)
class Response:
  """One response to a prompt."""

  text: str
  ended: bool  # by itself, before the last token allowed
  score: float | None = None  # of the reward, if it was asked for
  terms: Mapping[str, float] | None = None  # what the score is the sum of

  def __str__(self) -> str:
    text = self.text if self.ended else f"{self.text} …"
    if self.score is None:
      return text
    terms = (self.terms or {}).items()
    names = [f"{name} {x:+.2f}" for name, x in terms]
    of_terms = f" = {', '.join(names)}" if len(names) > 1 else ""
    return f"{text}  ({self.score:+.2f}{of_terms})"


def open_runs(folders: Sequence[str], *, scored: bool) -> Speakers:
  """The runs by name, the path where two are called the same."""
  speakers = {}
  for path in dict.fromkeys(str(epath.Path(path)) for path in folders):
    one = speaker.open_run(path, scored=scored)
    name = one.folder.resolve().name
    speakers[path if name in speakers else name] = one
    if not one.product.finished:
      _note(f"{name} has not finished: its step {one.product.step} speaks.")
  return speakers


def read_prompts(name: str) -> Iterator[tuple[str, str]]:
  """(file:line, prompt) of files of text or of objects with a "prompt"."""
  for path in specs.paths(name):
    if files.holds_objects(path):
      records = sources.read(path, "prompts")
      for number, record in enumerate(records, 1):
        yield f"{path}: prompt {number}", record["prompt"]
      continue
    count = 0
    for number, line in files.lines(path):
      if line.strip():
        count += 1
        yield f"{path}:{number}", line
    if not count:
      raise errors.UserError(f"{path}: empty; a prompt a line is right.")


def policy_of(
  one: speaker.Speaker, settings: Settings, *, prompts: int = 1
) -> respond.Policy:
  """The policy that answers so many prompts.

  Raises UserError for settings that are outside `ranges.SAMPLING`, or that this
  policy cannot follow.
  """
  one.check(settings.max_tokens, settings.top_k)
  data = one.ctx.config.data
  return respond.policy_of(
    one.ctx,
    one.params,
    rows=min(ROWS, prompts * settings.n),
    temperature=settings.temperature,
    top_k=settings.top_k,
    top_p=settings.top_p,
    max_tokens=settings.max_tokens or data.response_length,
  )


def answer(
  one: speaker.Speaker,
  prompts: Sequence[str],
  settings: Settings,
  *,
  turn: int = 0,
) -> list[list[Response]]:
  """`settings.n` responses to each normalised prompt; all prompts must fit.

  `turn` numbers the calls of a conversation: each draws anew.
  """
  n, count = settings.n, len(prompts)
  policy = policy_of(one, settings, prompts=count)
  key = jax.random.fold_in(jax.random.key(settings.seed), turn)
  asked = [prompt for prompt in prompts for _ in range(n)]
  said = respond.respond(policy, asked, key)
  scored: Sequence[tuple] = [()] * len(asked)
  if one.scorer is not None:
    scored = _scores(one.scorer, asked, said, rows=policy.rows)
  responses = [
    Response(text, ended, *of_text)
    for text, ended, of_text in zip(said.texts, said.ended.tolist(), scored)
  ]
  return [responses[i : i + n] for i in range(0, len(responses), n)]


def _scores(
  scorer: speaker.Scorer,
  prompts: Sequence[str],
  said: respond.Responses,
  *,
  rows: int,
) -> list[tuple[float, dict[str, float]]]:
  """The reward of each response, and its terms before their weights."""
  ctx = scorer.ctx
  columns = score.terms_of(ctx, scorer.params, prompts, said, rows=rows)
  totals = rewards.total(ctx.config.reward, columns)
  terms = [
    dict(zip(columns, row))
    for row in zip(*(x.tolist() for x in columns.values()))
  ]
  return list(zip(totals.tolist(), terms))


def answer_all(
  speakers: Speakers, settings: Settings, given: Given, display: Display
) -> None:
  """Answers prompts that are all there, and counts those that are too long."""
  left_out = set()
  answers: dict[str, dict[int, list[Response]]] = {}
  for name, one in speakers.items():
    texts = [one.normalize(text) for _, text in given]
    fitting = []
    for i, ((where, _), text) in enumerate(zip(given, texts)):
      problem = _problem(one, text)
      if not problem:
        fitting.append(i)
        continue
      left_out.add(i)
      problem = f"{where}: {problem} of {name}"
      if len(given) == 1:
        raise errors.UserError(problem)
      _note(problem)
    asked = [texts[i] for i in fitting]
    _name_unknown(one, asked)
    answers[name] = dict(
      zip(fitting, answer(one, asked, settings) if asked else [])
    )
  for i, (_, text) in enumerate(given):
    rows = {
      name: by_place[i] for name, by_place in answers.items() if i in by_place
    }
    if rows:
      _show(text, rows, display, several=len(speakers) > 1)
  if left_out:
    _note(f"{len(left_out)} of {len(given)} prompts were left out.")
    if not any(answers.values()):
      raise errors.UserError("--prompts_file: not one prompt could be used.")


def converse(speakers: Speakers, settings: Settings, display: Display) -> None:
  """Answers line by line; a prompt that cannot be used is named, no more."""
  terminal = sys.stdin.isatty()
  if terminal:
    _note("A line is a prompt. 'exit' or Ctrl-D ends.")
  turn = 0
  while (line := _line(terminal)) is not None:
    if not line.strip():
      continue
    rows = {}
    for name, one in speakers.items():
      text = one.normalize(line)
      problem = _problem(one, text)
      if problem:
        _note(f"{problem} of {name}")
        continue
      _name_unknown(one, [text])
      (rows[name],) = answer(one, [text], settings, turn=turn)
    turn += 1
    if rows:
      _show(line, rows, display, several=len(speakers) > 1)


def _line(terminal: bool) -> str | None:
  """The next line; None at the end of input or after 'exit'."""
  try:
    line = input("> " if terminal else "")
  except (EOFError, KeyboardInterrupt):
    return None
  except UnicodeDecodeError:
    raise errors.UserError("stdin: a line is not UTF-8.") from None
  return None if line.strip() in ("exit", "quit") else line


def _problem(one: speaker.Speaker, text: str) -> str:
  """Why a normalised prompt cannot be used; '' if it can."""
  if not text.strip():
    return "nothing is left of the prompt in the data"
  if not one.fits(text):
    limit = one.ctx.config.data.prompt_length
    tokens = one.prompt_tokens(text)
    return f"a prompt of {tokens} tokens is longer than the limit {limit}"
  return ""


def _name_unknown(one: speaker.Speaker, texts: list[str]) -> None:
  unknown = one.ctx.tokenizer.unknown_words("\n".join(texts))
  if unknown:
    _note(f"words that {one.folder.name} does not know: {', '.join(unknown)}")


def _show(
  prompt: str,
  rows: dict[str, list[Response]],
  display: Display,
  *,
  several: bool,
) -> None:
  """One prompt and its responses: JSON, a table, or plain lines."""
  if display.json:
    for name, responses in rows.items():
      record: dict[str, Any] = {"run": name} if several else {}
      record |= {"prompt": prompt, "responses": [r.text for r in responses]}
      if responses[0].score is not None:
        record["scores"] = [r.score for r in responses]
        record["terms"] = [r.terms for r in responses]
      print(streams.json_line(record), flush=True)
    return
  if sys.stdout.isatty() and several:
    title = rich.text.Text(prompt)
    table = rich.table.Table(*rows, title=title, expand=True)
    for responses in zip(*rows.values()):
      table.add_row(*(rich.text.Text(str(r)) for r in responses))
    rich.console.Console().print(table)
    return
  if not sys.stdin.isatty() or not sys.stdout.isatty() or display.echo:
    print(f"> {prompt}")
  for name, responses in rows.items():
    for response in responses:
      print(f"{name}: {response}" if several else response)
  print(flush=True)


def _note(message: str) -> None:
  print(f"note: {message}", file=sys.stderr, flush=True)

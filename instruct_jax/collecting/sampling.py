"""Answers of finished runs, sampled beforehand: `LABELS/samples.jsonl`.

Each prompt gets K answers, K drawn from `tasks.k_min` to `tasks.k_max`
(section 3.4), in turn from all runs, as `labeling.rankings` does for simulated
labelers; two where it becomes a comparison. A text that is there already is
drawn again, up to three times. What was sampled is in the file before it is a
task, so that a sampling that was killed goes on, and ends with the same lines.

A line is what `--samples` reads, and "key": a hash of the prompt, of what the
runs hand on and of the settings, under which it is found again.
"""

import dataclasses
import hashlib
import json
import logging
import math
import pathlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

from instruct_jax.base import errors, interrupt, progress, storage
from instruct_jax.collecting import adding, filling, kinds, settings, store
from instruct_jax.data.read import records
from instruct_jax.inference import context
from instruct_jax.runs import answers, chat, readers, speaker

_log = logging.getLogger(__name__)
NAME = "samples.jsonl"
_CHUNK = 32  # prompts that are saved together
_ROUNDS = 3  # of drawing anew what was there already
_KEPT = ("use_case", "spec", "core", "messages")  # of a prompt's record
_KEYS = {"key", "prompt", "responses"}
Content = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Prompt:
  """A prompt that is to be answered."""

  content: Content  # {"prompt", "record"}
  k: int  # how many different answers it is to have
  key: str


def from_runs(
  opened: store.Store, folders: Sequence[str], spec: str = ""
) -> list[filling.Filled]:
  """Has runs answer prompts; rankings, comparisons and demonstrations of them.

  Args:
    opened: the store; its settings say how many of which.
    folders: of the runs.
    spec: a file of prompts; '': those that the first run was trained for.

  Raises:
    UserError: no run, one that cannot speak, no prompt that fits all runs.
    Interrupted: after SIGTERM; what was sampled is saved.
  """
  given = opened.settings
  speakers = chat.open_runs(folders, scored=False)
  first = next(iter(speakers.values()))
  source = spec or f"{first.folder.resolve().name}'s prompts"
  found = filling.prompts(spec) if spec else _own(first.ctx, given)
  written, asked = _divided(found, given)
  fitting = [x for x in asked if _fits(x, speakers.values())]
  if len(fitting) < len(asked):
    _log.warning(
      "warning: %s: %d of %d prompts are longer than the runs read, left out",
      *(source, len(asked) - len(fitting), len(asked)),
    )
  if not fitting and not written:
    raise errors.UserError(f"{source}: no prompt is short enough for the runs")
  prompts = _planned(fitting, speakers, given)
  path = opened.folder / NAME
  lines = _sampled(path, prompts, speakers, given)
  rows = opened.add_tasks("demonstration", written, source=source)
  added = {"demonstration": rows.added}
  return [
    filling.Filled(source, added, rows.repeated, 0, 0),
    filling.fill(opened, (_content(line) for line in lines), NAME),
  ]


def _own(ctx: context.Context, given: settings.Settings) -> list[Content]:
  """The first training prompts of a run's own data."""
  rows = ctx.rows("prompts", "train")
  count = given.sampling.prompts
  found: dict[str, Content] = {}
  for number in rows.index:
    if len(found) == count:
      break
    record = dict(rows.source[int(number)])
    kept = {key: record[key] for key in _KEPT if key in record}
    content = filling.content_of({"prompt": record["prompt"], **kept})
    found.setdefault(record["prompt"], content)
  return list(found.values())


def _divided(
  contents: Sequence[Content], given: settings.Settings
) -> tuple[list[Content], list[Content]]:
  """(those that labelers answer, those that runs answer), drawn by prompt."""
  share, written, asked = given.tasks.demonstrations, [], []
  for content in contents:
    draw = adding.drawn(given, "demonstration", content["prompt"])
    (written if draw < share else asked).append(content)
  return written, asked


def _fits(content: Content, speakers) -> bool:
  return all(one.fits(one.normalize(content["prompt"])) for one in speakers)


def _planned(
  contents: Sequence[Content],
  speakers: dict[str, speaker.Speaker],
  given: settings.Settings,
) -> list[_Prompt]:
  of_tasks = given.tasks
  what = [
    {name: _digest(one) for name, one in speakers.items()},
    *(given.sampling.temperature, of_tasks.seed),
    *(of_tasks.k_min, of_tasks.k_max, of_tasks.comparisons),
  ]
  planned = []
  for content in contents:
    prompt = content["prompt"]
    k = random.Random(f"{of_tasks.seed}/k/{prompt}").randint(
      of_tasks.k_min, of_tasks.k_max
    )
    if adding.drawn(given, "comparison", prompt) < of_tasks.comparisons:
      k = 2
    key = hashlib.sha256(kinds.as_json([*what, prompt]).encode()).hexdigest()
    planned.append(_Prompt(content, k, key[:32]))
  return planned


def _digest(one: speaker.Speaker) -> str:
  if one.product.finished:
    return readers.digest_of(one.folder)
  return f"{one.product.run}@{one.product.step}"


def _sampled(
  path: pathlib.Path,
  prompts: Sequence[_Prompt],
  speakers: dict[str, speaker.Speaker],
  given: settings.Settings,
) -> list[Content]:
  """The lines of all prompts, those that are missing sampled and saved."""
  there = {line["key"]: line for line in _whole_lines(path)}
  done = sum(prompt.key in there for prompt in prompts)
  if done:
    _log.info("%s: %d of %d prompts are answered", path, done, len(prompts))
  title = f"sampled prompts ({', '.join(speakers)})"
  with progress.Progress(title, len(prompts), start=done) as line:
    for start in range(0, len(prompts), _CHUNK):
      chunk = prompts[start : start + _CHUNK]
      missing = [prompt for prompt in chunk if prompt.key not in there]
      if not missing:
        continue
      # The whole chunk, of which a kill may have left a part: what is drawn
      # depends on the place in it.
      for content, prompt in zip(
        _answered(chunk, start // _CHUNK, speakers, given), chunk
      ):
        there.setdefault(prompt.key, content)
      lines = [json.dumps(there[x.key], ensure_ascii=False) for x in missing]
      storage.append(path, "".join(f"{x}\n" for x in lines).encode())
      line.advance(len(missing))
      interrupt.check()
  return [there[prompt.key] for prompt in prompts]


def _answered(
  chunk: Sequence[_Prompt],
  number: int,
  speakers: dict[str, speaker.Speaker],
  given: settings.Settings,
) -> list[Content]:
  """The lines of a chunk of prompts."""
  found: list[dict[str, tuple[str, bool]]] = [{} for _ in chunk]
  for round_ in range(_ROUNDS):
    if all(len(x) >= prompt.k for x, prompt in zip(found, chunk)):
      break
    most = max(prompt.k for prompt in chunk)
    how = answers.Settings(
      temperature=given.sampling.temperature,
      n=math.ceil(most / len(speakers)),
      seed=given.tasks.seed,
    )
    said = {}
    for place, (name, one) in enumerate(speakers.items()):
      turn = (number * _ROUNDS + round_) * len(speakers) + place
      texts = [one.normalize(x.content["prompt"]) for x in chunk]
      said[name] = answers.answer(one, texts, how, turn=turn)
    for i, prompt in enumerate(chunk):
      _take(found[i], prompt, {name: of[i] for name, of in said.items()})
    if not given.sampling.temperature:
      break  # Greedy answers are what they are.
  return [_line(prompt, of) for prompt, of in zip(chunk, found)]


def _take(found, prompt, said):
  """Takes different answers from the runs in turn, until there are K."""
  names = sorted(said)
  random.Random(prompt.key).shuffle(names)
  for of_all in zip(*(said[name] for name in names)):
    for name, response in zip(names, of_all):
      text = "" if records.is_blank(response.text) else response.text
      # Who ends at once has said nothing; who was cut before, not even that.
      is_one = bool(text) or response.ended
      if len(found) < prompt.k and is_one and text not in found:
        found[text] = name, response.ended


def _line(prompt: _Prompt, found: dict[str, tuple[str, bool]]) -> Content:
  said = {
    "prompt": prompt.content["prompt"],
    "responses": list(found),
    "models": [name for name, _ in found.values()],
    "ended": [ended for _, ended in found.values()],
  }
  # A file of prompts may be one of rankings, whose answers are not these.
  record = prompt.content.get("record", {})
  more = {name: x for name, x in record.items() if name not in said}
  return {**said, **more, "key": prompt.key}


def _content(line: Content) -> Content:
  """A task's content of a line."""
  rest = {key: value for key, value in line.items() if key != "key"}
  return filling.content_of(rest, ("prompt", "responses", "models", "ended"))


def _whole_lines(path: pathlib.Path) -> Iterator[Content]:
  """What was sampled before; a last line that a kill has torn is cut off."""
  if not path.exists():
    return
  content = path.read_bytes()
  whole = content.rpartition(b"\n")[0]
  if len(whole) + bool(whole) < len(content):
    storage.write(path, whole + b"\n" if whole else b"")
  for number, text in enumerate(whole.splitlines(), start=1):
    try:
      line = json.loads(text)
    except ValueError:
      line = None
    if not isinstance(line, dict) or not line.keys() >= _KEYS:
      raise errors.UserError(
        f"{path}:{number}: is no line of samples; leave it out, or move the"
        " file away to sample anew"
      )
    yield line

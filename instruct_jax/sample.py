"""Talks to finished runs.

  python -m instruct_jax.sample --run=runs/ppo_ptx-tiny
  python -m instruct_jax.sample --run=runs/sft-tiny --run=runs/ppo_ptx-tiny \\
    --prompt="what job does ann have ?" --n=3 --scores

Reads prompts line by line until the end of input or 'exit', unless --prompt or
--prompts_file gives them. Responses go to stdout, notes to stderr. Exit codes:
0 done, 2 bad input.
"""

import json
import sys
from collections.abc import Iterator

import rich.console
import rich.table
import rich.text
from absl import flags
from etils import epath

from instruct_jax.base import command, compilation, errors
from instruct_jax.data.read import files, sources
from instruct_jax.runs import speaker

_RUN = flags.DEFINE_multi_string(
  "run", [], "A run's folder; repeat it to see several side by side."
)
_PROMPT = flags.DEFINE_string("prompt", None, "A single prompt.")
_PROMPTS_FILE = flags.DEFINE_string(
  "prompts_file", None, 'Prompts: lines of text, or JSONL with a "prompt".'
)
_GREEDY = flags.DEFINE_bool("greedy", False, "Take the likeliest token.")
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "0 is greedy.")
_TOP_K = flags.DEFINE_integer("top_k", 0, "Of the k likeliest; 0: of all.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Of the likeliest that sum to p.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed, the same responses.")
_N = flags.DEFINE_integer("n", 1, "Responses a prompt.")
_MAX_TOKENS = flags.DEFINE_integer(
  "max_tokens", 0, "Longest response; 0: as long as in training."
)
_JSON = flags.DEFINE_bool("json", False, "One JSON object a prompt (and run).")
_SCORES = flags.DEFINE_bool(
  "scores", False, "Also what the reward model behind a run says."
)


def main(argv: list[str]) -> None:
  """Opens the runs, then answers whatever the prompts come from."""
  del argv
  settings = _settings()
  given = _given_prompts()
  compilation.enable_cache()
  speakers = _open()
  for one in speakers.values():
    speaker.sampling(one, settings)  # UserError before the first prompt.
  if given is None:
    _chat(speakers, settings)
  else:
    _answer(speakers, settings, given)


def _settings() -> speaker.Settings:
  """The flags, checked."""
  for flag, good, right in (
    (_TEMPERATURE, 0 <= _TEMPERATURE.value < float("inf"), "0 or more"),
    (_TOP_K, _TOP_K.value >= 0, "0 or more"),
    (_TOP_P, 0 < _TOP_P.value <= 1, "above 0 and at most 1"),
    (_N, _N.value >= 1, "1 or more"),
    (_MAX_TOKENS, _MAX_TOKENS.value >= 0, "0 or more"),
    (_SEED, -(2**31) <= _SEED.value < 2**31, "a number of 32 bits"),
  ):
    if not good:
      raise errors.UserError(f"--{flag.name}={flag.value}: must be {right}.")
  if _GREEDY.value and _TEMPERATURE.present and _TEMPERATURE.value:
    raise errors.UserError("--greedy and --temperature: give one of them.")
  return speaker.Settings(
    temperature=0.0 if _GREEDY.value else _TEMPERATURE.value,
    top_k=_TOP_K.value,
    top_p=_TOP_P.value,
    max_tokens=_MAX_TOKENS.value,
    n=_N.value,
    seed=_SEED.value,
  )


def _given_prompts() -> list[tuple[str, str]] | None:
  """(where, text) of each prompt that the flags give; None to read stdin."""
  if _PROMPT.value is not None and _PROMPTS_FILE.value is not None:
    raise errors.UserError("--prompt and --prompts_file: give one of them.")
  if _PROMPT.value is not None:
    if not _PROMPT.value.strip():
      raise errors.UserError("--prompt: is empty.")
    return [("--prompt", _PROMPT.value)]
  if _PROMPTS_FILE.value is not None:
    try:
      return list(_read(_PROMPTS_FILE.value))
    except errors.UserError as error:
      raise errors.UserError(f"--prompts_file: {error}") from None
  return None


def _read(name: str) -> Iterator[tuple[str, str]]:
  """(file:line, prompt) of files of text or of objects with a "prompt"."""
  for path in sources.paths(name):
    if files.holds_objects(path):
      records = sources.read_jsonl(path, required={"prompt": str})
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


def _open() -> dict[str, speaker.Speaker]:
  """The runs by name, the path where two are called the same."""
  if not _RUN.value:
    raise errors.UserError("--run: name a run's folder, as runs/ppo_ptx-tiny.")
  found = {}
  for path in dict.fromkeys(str(epath.Path(path)) for path in _RUN.value):
    one = speaker.open_run(path, scored=_SCORES.value)
    name = one.folder.resolve().name
    found[path if name in found else name] = one
    if not one.product.finished:
      _note(f"{name} has not finished: its step {one.product.step} speaks.")
  return found


def _answer(speakers, settings, given) -> None:
  """Answers prompts that are all there, and counts those that are too long."""
  left_out = set()
  table = {}
  for name, one in speakers.items():
    texts = [one.normalize(text) for _, text in given]
    fitting = []
    for i, ((where, _), text) in enumerate(zip(given, texts)):
      problem = _problem(one, text)
      if problem:
        left_out.add(i)
        problem = f"{where}: {problem} of {name}"
        if len(given) == 1:
          raise errors.UserError(problem)
        _note(problem)
      else:
        fitting.append(i)
    _name_unknown(one, [texts[i] for i in fitting])
    answers = []
    if fitting:
      answers = speaker.respond(one, [texts[i] for i in fitting], settings)
    table[name] = dict(zip(fitting, answers))
  for i, (_, text) in enumerate(given):
    rows = {name: found[i] for name, found in table.items() if i in found}
    if rows:
      _show(text, rows, len(speakers) > 1)
  if left_out:
    _note(f"{len(left_out)} of {len(given)} prompts were left out.")
    if not any(table.values()):
      raise errors.UserError("--prompts_file: not one prompt could be used.")


def _chat(speakers, settings) -> None:
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
      (rows[name],) = speaker.respond(one, [text], settings, turn=turn)
    turn += 1
    if rows:
      _show(line, rows, len(speakers) > 1)


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
  prompt: str, rows: dict[str, list[speaker.Response]], several: bool
) -> None:
  """One prompt and its responses: JSON, a table, or plain lines."""
  if _JSON.value:
    for name, responses in rows.items():
      record = {"run": name} if several else {}
      record |= {"prompt": prompt, "responses": [r.text for r in responses]}
      if _SCORES.value:
        record["scores"] = [r.score for r in responses]
      print(json.dumps(record, ensure_ascii=False), flush=True)
    return
  if sys.stdout.isatty() and several:
    title = rich.text.Text(prompt)
    table = rich.table.Table(*rows, title=title, expand=True)
    for responses in zip(*rows.values()):
      table.add_row(*(rich.text.Text(_text(r)) for r in responses))
    rich.console.Console().print(table)
    return
  if not sys.stdin.isatty() or not sys.stdout.isatty() or _is_given():
    print(f"> {prompt}")
  for name, responses in rows.items():
    for response in responses:
      print(f"{name}: {_text(response)}" if several else _text(response))
  print(flush=True)


def _is_given() -> bool:
  return _PROMPT.value is not None or _PROMPTS_FILE.value is not None


def _text(response: speaker.Response) -> str:
  text = response.text if response.ended else f"{response.text} …"
  return text if response.score is None else f"{text}  ({response.score:+.2f})"


def _note(message: str) -> None:
  print(f"note: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
  command.run(main)

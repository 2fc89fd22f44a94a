"""What can be said to a conversation beside prompts: lines that begin with /.

A command takes the conversation and a value, and gives it back as it goes on,
with the lines that are shown. Bad values are UserErrors; then nothing changes.
"""

import dataclasses
import re
from collections.abc import Callable

from instruct_jax.base import errors, ranges
from instruct_jax.maths import best_of
from instruct_jax.runs import conversation, introduction, speaker

Talk = conversation.Talk
Result = tuple[Talk, list[str]]

MARK = "/"


@dataclasses.dataclass(frozen=True)
class Command:
  """One command."""

  form: str  # of its value, '' for none
  meaning: str
  act: Callable[[Talk, str], Result]


def is_command(line: str) -> bool:
  """Whether a line is no prompt. `//` at its start is a prompt's one '/'."""
  return line.startswith(MARK) and not line.startswith(MARK * 2)


def prompt_of(line: str) -> str:
  """The prompt that a line is."""
  return line.removeprefix(MARK) if line.startswith(MARK * 2) else line


def run(talk: Talk, line: str) -> Result:
  """What a line that is a command does.

  Raises UserError for an unknown command, with the nearest, and for a value
  that is not right; EOFError for the command that ends the conversation.
  """
  name, value = _parts(line)
  if name not in COMMANDS:
    known = [f"{MARK}{name}" for name in COMMANDS]
    error = errors.unknown("command", f"{MARK}{name}", known, show=1)
    raise errors.UserError(
      f"{str(error).partition(' Near:')[0]} /help lists them; a prompt that"
      " begins with / is said with //."
    )
  command = COMMANDS[name]
  if value and not command.form:
    raise errors.UserError(f"/{name} takes no value, not {value!r}")
  return command.act(talk, value)


def _parts(line: str) -> tuple[str, str]:
  """'/top_k 5', '/top_k=5' and '/TOP-K 5' -> ('top_k', '5')."""
  name, value = re.split(r"[=\s]|$", line.removeprefix(MARK), maxsplit=1)
  name = name.lower().replace("-", "_")
  return ALIASES.get(name, name), value.strip()


def _help(talk: Talk, value: str) -> Result:
  forms = {name: f"/{name} {c.form}".rstrip() for name, c in COMMANDS.items()}
  width = max(map(len, forms.values()))
  lines = [
    f"  {forms[name]:<{width}}  {command.meaning}"
    for name, command in COMMANDS.items()
  ]
  return talk, [
    *lines,
    "A setting without a value shows what it is now. Any other line is a"
    " prompt; one that begins with / is said with //.",
    "Up and down: what was said before. Ctrl-C stops an answer or gives a line"
    " up; at an empty one it ends, as Ctrl-D does.",
  ]


def _examples(talk: Talk, value: str) -> Result:
  lines = []
  for name, one in talk.speakers.items():
    shown = [f"  {text}" for text in introduction.examples(one)]
    if shown != lines[-len(shown) :]:
      lines += [f"{name} can be asked, for example:", *shown]
  return talk, lines


def _runs(talk: Talk, value: str) -> Result:
  about = [introduction.about(*item) for item in talk.speakers.items()]
  return talk, [line for lines in about for line in lines]


def _reset(talk: Talk, value: str) -> Result:
  if not any(map(conversation.has_turns, talk.speakers.values())):
    return talk, ["Nothing to forget: every line stands alone here."]
  count = max(map(len, talk.turns.values()), default=0)
  return dataclasses.replace(talk, turns={}), [f"{count} turns are forgotten."]


def _settings(talk: Talk, value: str) -> Result:
  lines = [f"  {_shown(talk, name)}" for name in SETTINGS]
  return talk, [*lines, f"  {_scores_shown(talk)}"]


def _setting(name: str) -> Callable[[Talk, str], Result]:
  def act(talk: Talk, value: str) -> Result:
    if not value:
      return talk, [_shown(talk, name)]
    right = ranges.SAMPLING[name].right
    if len(value.split()) > 1:
      raise errors.UserError(f"/{name} {value}: takes one value, {right}")
    try:
      talk = talk.sampling(**{name: SETTINGS[name](value)})
    except ValueError:
      raise errors.UserError(f"/{name} {value}: must be {right}") from None
    except errors.UserError as error:
      start = re.compile(rf"--{name}=[^\s:]*")
      message = start.sub(lambda _: f"/{name} {value}", str(error))
      raise errors.UserError(message) from None
    return talk, [_shown(talk, name)]

  return act


def _shown(talk: Talk, name: str) -> str:
  value = getattr(talk.settings, name)
  if name == "max_tokens" and not value:
    limits = {
      one.ctx.config.data.response_length for one in talk.speakers.values()
    }
    return f"{name} 0 (as in training: {', '.join(map(str, sorted(limits)))})"
  meant = {("temperature", 0): " (greedy)", ("top_k", 0): " (of all)"}
  if name == "best_of" and value > 1:
    meant[name, value] = f" ({best_of.kl(value):.2f} nats from the run's own)"
  return f"{name} {value:g}{meant.get((name, value), '')}"


def _greedy(talk: Talk, value: str) -> Result:
  return COMMANDS["temperature"].act(talk, "0")


def _scores(talk: Talk, value: str) -> Result:
  value = value.lower()
  if value not in ("", "on", "off"):
    raise errors.UserError(f"/scores {value}: must be on or off.")
  if value == "off" and talk.settings.best_of > 1:
    raise errors.UserError(
      f"/scores off: /best_of {talk.settings.best_of} chooses by them; say"
      " /best_of 1 first"
    )
  speakers, without = dict(talk.speakers), []
  for name, one in talk.speakers.items() if value else ():
    try:
      change = speaker.with_reward if value == "on" else speaker.without_reward
      speakers[name] = change(one)
    except errors.UserError as error:
      without.append(str(error).replace("--scores", "/scores"))
  if len(without) == len(speakers):
    raise errors.UserError(without[0])
  talk = dataclasses.replace(talk, speakers=speakers)
  return talk, [_scores_shown(talk), *without]


def _scores_shown(talk: Talk) -> str:
  scored = [name for name, one in talk.speakers.items() if one.reward]
  if not scored or len(scored) == len(talk.speakers):
    return f"scores {'on' if scored else 'off'}"
  return f"scores on for {', '.join(scored)}"


def _exit(talk: Talk, value: str) -> Result:
  raise EOFError


SETTINGS: dict[str, Callable[[str], float]] = {
  "temperature": float,
  "top_k": int,
  "top_p": float,
  "max_tokens": int,
  "n": int,
  "best_of": int,
  "seed": int,
}
COMMANDS = {
  "help": Command("", "this list", _help),
  "examples": Command("", "what the runs can be asked", _examples),
  "runs": Command("", "who answers: model, template, what made it", _runs),
  "settings": Command("", "all settings as they are", _settings),
  "temperature": Command(
    "[NUMBER]", "how freely tokens are drawn; 0 is greedy",
    _setting("temperature"),
  ),
  "greedy": Command("", "take the likeliest token: /temperature 0", _greedy),
  "top_k": Command("[K]", "of the K likeliest; 0: of all", _setting("top_k")),
  "top_p": Command(
    "[P]", "of the likeliest that together reach P", _setting("top_p")
  ),
  "max_tokens": Command(
    "[COUNT]", "longest answer; 0: as in training", _setting("max_tokens")
  ),
  "n": Command("[COUNT]", "answers a prompt", _setting("n")),
  "best_of": Command(
    "[COUNT]", "of so many, each answer is the reward's best",
    _setting("best_of"),
  ),
  "seed": Command(
    "[NUMBER]", "the same seed, the same answers: draws begin anew",
    _setting("seed"),
  ),
  "scores": Command("[on|off]", "the reward of every answer", _scores),
  "reset": Command("", "forget what was said before", _reset),
  "exit": Command("", "end, as Ctrl-D", _exit),
}  # fmt: skip
ALIASES = {"": "help", "?": "help", "h": "help", "quit": "exit", "bye": "exit"}

"""Conversations with finished runs, and prompts that are asked all at once.

Responses go to stdout, notes to stderr.
"""

import pathlib
from collections.abc import Mapping, Sequence

from etils import epath

from instruct_jax.base import compilation, errors, interrupt, keyboard, peers
from instruct_jax.parallel import hosts
from instruct_jax.runs import (
  answers,
  asked,
  commands,
  conversation,
  display,
  introduction,
  speaker,
)

HISTORY = "chat_history"  # a file of the cache
_ENDS = ("exit", "quit")

Talk = conversation.Talk
# (the turns before, the prompt, the whole of it as the run reads it), by run
Prompts = Mapping[str, tuple[conversation.Turns, str, str]]


def open_runs(
  folders: Sequence[str],
  *,
  scored: bool,
  scorers: speaker.Scorers | None = None,
) -> dict[str, speaker.Speaker]:
  """The runs by name, the path where two are called the same."""
  speakers = {}
  for path in dict.fromkeys(str(epath.Path(path)) for path in folders):
    one = speaker.open_run(path, scored=scored, scorers=scorers)
    name = one.folder.resolve().name
    speakers[path if name in speakers else name] = one
    if not one.product.finished:
      display.note(
        f"{name} has not finished: its step {one.product.step} speaks."
      )
  return speakers


def answer_all(
  talk: Talk, given: Sequence[asked.Asked], how: display.Display
) -> None:
  """Answers prompts that are all there, and counts those that are too long."""
  _name_renamed(talk, given, how)
  if len(given) == 1:
    _answer_alone(talk, given[0], how)
    return
  left_out: set[int] = set()
  said = {
    name: _answer_fitting(name, one, given, talk.settings, left_out)
    for name, one in talk.speakers.items()
  }
  for i, one_asked in enumerate(given):
    rows = {name: places[i] for name, places in said.items() if i in places}
    if rows:
      how.ask(one_asked.text)
      how.show(one_asked.text, rows, one_asked.record)
  if left_out:
    display.note(f"{len(left_out)} of {len(given)} prompts were left out.")
    if not any(said.values()):
      raise errors.UserError("--prompts_file: not one prompt could be used.")


def _answer_fitting(
  name: str,
  one: speaker.Speaker,
  given: Sequence[asked.Asked],
  settings: answers.Settings,
  left_out: set[int],
) -> dict[int, list[answers.Response]]:
  """What a run says, by the prompt's place; adds those that it cannot take."""
  texts = [_whole(one, one_asked) for one_asked in given]
  fitting = []
  for i, text in enumerate(texts):
    if problem := _problem(one, given[i], text):
      display.note(f"{given[i].where}: {problem} of {name}")
      left_out.add(i)
    else:
      fitting.append(i)
  _name_unknown(
    one, [texts[i] for i in fitting], [given[i].text for i in fitting]
  )
  if not fitting:
    return {}
  with display.waiting():
    said = answers.answer(one, [texts[i] for i in fitting], settings)
  return dict(zip(fitting, said))


def _answer_alone(talk, one_asked, how):
  """One prompt, shown while it is answered."""
  prompts = {}
  for name, one in talk.speakers.items():
    text = _whole(one, one_asked)
    if problem := _problem(one, one_asked, text):
      raise errors.UserError(f"{one_asked.where}: {problem} of {name}")
    _name_unknown(one, [text], [one_asked.text])
    prompts[name] = ((), text, text)
  _answer_now(talk, one_asked.text, prompts, how, one_asked.record)


def converse(talk: Talk, how: display.Display) -> None:
  """Answers line by line; what cannot be used is named, no more.

  Raises interrupt.Left for Ctrl-C where nothing was typed.
  """
  words = [f"{commands.MARK}{name}" for name in commands.COMMANDS]
  keys = keyboard.Keyboard(_history(), words)
  if keys.is_terminal:
    display.say(introduction.greeting(talk.speakers))
  elif any(map(conversation.has_turns, talk.speakers.values())):
    display.note(
      "the lines are turns of one conversation, which runs whose template has"
      " turns remember; --prompts_file asks each by itself."
    )
  while (line := _line(keys)) is not None:
    try:
      if commands.is_command(line):
        talk, lines = commands.run(talk, line)
        display.say(lines)
      elif line.strip():
        talk = _respond(talk, commands.prompt_of(line), how, keys)
    except errors.UserError as error:
      display.note(str(error))
    except EOFError:  # a command that ends it
      return


def _line(keys: keyboard.Keyboard) -> str | None:
  """The next line; None at the end of input or after 'exit'.

  Of several processes the first one reads it, for all of them.
  """
  return hosts.once("line", lambda: _typed(keys))


def _typed(keys: keyboard.Keyboard) -> str | None:
  """In a terminal a line that is no text is named, and another asked for."""
  while True:
    try:
      line = keys.line("> ")
    except errors.UserError as error:
      if not keys.is_terminal:
        raise
      display.note(str(error))
      continue
    return None if line is None or line.strip() in _ENDS else line


def _history() -> pathlib.Path | None:
  home = compilation.cache_home()
  return pathlib.Path(home) / HISTORY if home else None


def _respond(
  talk: Talk, line: str, how: display.Display, keys: keyboard.Keyboard
) -> Talk:
  """Answers one line; the conversation after it."""
  prompts = _prompts(talk, line)
  if not prompts:
    return talk
  said = {}
  try:
    with interrupt.deferred():
      said = _answer_now(talk, line, prompts, how)
  except KeyboardInterrupt as error:
    is_stopped = isinstance(error, interrupt.Stopped)
    has_peers = peers.current is not None  # They go on with the answer.
    if is_stopped or has_peers or not keys.is_terminal:
      raise
    interrupt.rearm()
    keys.forget_pasted()
    remembers = any(conversation.has_turns(talk.speakers[x]) for x in prompts)
    forgotten = "; this answer is not remembered" if remembers else ""
    display.note(f"stopped{forgotten}.")
  return talk.asked(
    {
      name: (*prompts[name][:2], responses[0].text)
      for name, responses in said.items()
    }
  )


def _prompts(talk: Talk, line: str) -> Prompts:
  """What the runs read of a line; not those that cannot use it."""
  prompts = {}
  for name, one in talk.speakers.items():
    text = one.normalize(line)
    if problem := conversation.problem(one, text):
      display.note(f"{problem} of {name}")
      continue
    turns, forgotten = conversation.fitting(one, talk.turns.get(name, ()), text)
    if forgotten:
      display.note(f"{name}: {forgotten}.")
    _name_unknown(one, [text], [line])
    prompts[name] = turns, text, conversation.whole(turns, text)
  return prompts


def _answer_now(
  talk: Talk,
  line: str,
  prompts: Prompts,
  how: display.Display,
  record: Mapping | None = None,
) -> dict[str, list[answers.Response]]:
  """What each run says to its prompt, shown while it grows or after it."""
  how.ask(line)
  said = {
    name: _answer_run(talk, name, text, how)
    for name, (_, _, text) in prompts.items()
  }
  if how.grows:
    how.close()
  else:
    how.show(line, said, record)
  return said


def _answer_run(
  talk: Talk, name: str, text: str, how: display.Display
) -> list[answers.Response]:
  one, count = talk.speakers[name], talk.settings.n
  with display.waiting() as come:
    growing = how.growing(name, count, come, has_remarks=one.reward is not None)

    def watch(texts, ended):
      interrupt.check()
      if how.grows:
        growing.watch(texts, ended)

    try:
      said = answers.answer_one(
        one, text, talk.settings, turn=talk.draws, watch=watch
      )
    except KeyboardInterrupt:
      growing.stop()
      raise
    if how.grows:
      growing.finish(said)
  return said


def _whole(one: speaker.Speaker, given: asked.Asked) -> str:
  """What a run reads of a prompt."""
  turns = [(one.normalize(a), one.normalize(b)) for a, b in given.turns]
  system = one.normalize(given.system)
  return conversation.whole(turns, one.normalize(given.prompt), system)


def _problem(one: speaker.Speaker, given: asked.Asked, text: str) -> str:
  if given.turns and not conversation.has_turns(one):
    template = one.ctx.config.data.template
    return f"a dialogue, but no turns in the template {template!r}"
  return conversation.problem(one, text)


def _name_renamed(
  talk: Talk, given: Sequence[asked.Asked], how: display.Display
) -> None:
  """Says which keys of the records stand under another name."""
  scored = any(one.reward is not None for one in talk.speakers.values())
  ours = how.keys(scored=scored, chosen=talk.settings.best_of > 1)
  for key in sorted(ours) if how.json else ():
    count = sum(key in (one_asked.record or ()) for one_asked in given)
    if count:
      display.note(
        f'{count} of {len(given)} prompts have a "{key}" of their own: it'
        f' stands as "given_{key}"'
      )


def _name_unknown(
  one: speaker.Speaker, texts: list[str], typed: list[str]
) -> None:
  """Says which words of normalised texts are unknown, as they were typed."""
  unknown = one.ctx.tokenizer.unknown_words("\n".join(texts))
  if unknown:
    unknown = conversation.as_typed(one, unknown, "\n".join(typed))
    display.note(
      f"words that {one.folder.name} does not know: {', '.join(unknown)}"
    )

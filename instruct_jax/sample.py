"""Talks to finished runs.

  python -m instruct_jax.sample --run=runs/ppo_ptx-tiny
  python -m instruct_jax.sample --run=runs/sft-tiny --run=runs/ppo_ptx-tiny \\
    --prompt="what job does ann have ?" --n=3 --scores
  python -m instruct_jax.sample --run=runs/sft-tiny --best_of=16 \\
    --scorer=runs/rm-tiny --prompts_file=prompts.txt --json

Reads prompts line by line until the end of input or 'exit', unless --prompt or
--prompts_file gives them. In a terminal lines are edited with the arrow keys,
answers are shown while they grow, and /help lists what else can be said. Lines
are one conversation where a run's template has turns; the prompts of a file
stand alone.
Responses go to stdout, notes to stderr. On many hosts it is one job, as
`instruct_jax.main`: the first process reads what is typed, and prints. Exit
codes: 0 done, 2 bad input, 75 SIGTERM, or another process of the job is gone,
130 Ctrl-C.
"""

from absl import flags

from instruct_jax.base import allocation, command, compilation, errors
from instruct_jax.runs import (
  alike,
  answers,
  asked,
  chat,
  conversation,
  display,
  processes,
  speaker,
)

_RUN = flags.DEFINE_multi_string(
  "run", [], "A run's folder; repeat it to see several side by side."
)
_PROMPT = flags.DEFINE_string("prompt", None, "A single prompt.")
_PROMPTS_FILE = flags.DEFINE_string(
  "prompts_file",
  None,
  'Prompts: lines of text, or JSONL with a "prompt" or "messages"; -: stdin.',
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
_BEST_OF = flags.DEFINE_integer(
  "best_of", 1, "Each answer is the one of so many that the reward likes best."
)
_SCORER = flags.DEFINE_string(
  "scorer",
  "",
  "A reward model, run or hf:PATH, in the place of the run's own; several, with"
  " commas, judge together.",
)
_COMBINE = flags.DEFINE_enum(
  "combine", "mean", ["mean", "worst"], "What several of --scorer say together."
)
_SCORES = flags.DEFINE_bool(
  "scores", False, "Also the reward, and the terms that it is the sum of."
)
flags.adopt_module_key_flags(processes)


def main(argv: list[str]) -> None:
  """Opens the runs, then answers whatever the prompts come from."""
  del argv
  if not _RUN.value:
    raise errors.UserError("--run: name a run's folder, as runs/ppo_ptx-tiny.")
  settings, scorers = _settings(), _scorers()
  allocation.keep()
  compilation.enable_cache()
  others = processes.join()
  if others is not None:
    read = [*_RUN.value, *(scorers.folders if scorers else ())]
    processes.start(others, more=alike.runs(read))
  given = _given_prompts()
  speakers = chat.open_runs(
    _RUN.value,
    scored=_SCORES.value or bool(_SCORER.value) or settings.best_of > 1,
    scorers=scorers,
  )
  talk = conversation.Talk(speakers, settings)
  talk.sampling()  # UserError before the first prompt.
  if settings.best_of > 1:
    display.note(display.of_choice(settings.best_of))
  how = display.Display(
    json=_JSON.value, echo=given is not None, several=len(speakers) > 1
  )
  if given is None:
    chat.converse(talk, how)
  else:
    chat.answer_all(talk, given, how)


def _settings() -> answers.Settings:
  """The flags, checked."""
  if _GREEDY.value and _TEMPERATURE.present and _TEMPERATURE.value:
    raise errors.UserError("--greedy and --temperature: give one of them.")
  return answers.Settings(
    temperature=0.0 if _GREEDY.value else _TEMPERATURE.value,
    top_k=_TOP_K.value,
    top_p=_TOP_P.value,
    max_tokens=_MAX_TOKENS.value,
    n=_N.value,
    seed=_SEED.value,
    best_of=_BEST_OF.value,
  )


def _scorers() -> speaker.Scorers | None:
  """The reward models that --scorer names."""
  named = [part.strip() for part in _SCORER.value.split(",") if part.strip()]
  if _COMBINE.present and len(named) < 2:
    raise errors.UserError("--combine: is for several, --scorer=RUN,RUN.")
  if not named:
    return None
  return speaker.Scorers(tuple(named), _COMBINE.value)


def _given_prompts() -> list[asked.Asked] | None:
  """The prompts that the flags give; None to read stdin."""
  if _PROMPT.value is not None and _PROMPTS_FILE.value is not None:
    raise errors.UserError("--prompt and --prompts_file: give one of them.")
  if _PROMPT.value is not None:
    if not _PROMPT.value.strip():
      raise errors.UserError("--prompt: is empty.")
    return [asked.Asked("--prompt", _PROMPT.value)]
  if _PROMPTS_FILE.value is not None:
    try:
      return list(asked.read(_PROMPTS_FILE.value))
    except errors.UserError as error:
      raise errors.UserError(f"--prompts_file: {error}") from None
  return None


if __name__ == "__main__":
  command.run_main(main, stopped="whatever was answered by then stands above")

"""What the responses are like: how long, whether they end, how many there are.

Lengths are in tokens.
"""

import collections

from instruct_jax.doctor import finding, record

_DRIFT = 1.5
_ENDED = 0.75
_SAMPLES = 6
_SAME = 0.5
_SAME_OF_MANY = 0.2
_MANY = 100


def length_drift(run: record.Record) -> finding.Finding | None:
  """Healthy runs end within 0.95 to 1.25 of the length that they start with.
  Longer is what reward models learn to like first (Singhal et al. 2023)."""
  length = run.long("response/length")
  if not length or not length.start:
    return None
  ratio = length.end / length.start
  if 1 / _DRIFT <= ratio <= _DRIFT:
    return None
  return finding.Finding(
    "length_drift",
    f"{length.way} tokens, {ratio:.2f} times; within {_DRIFT:g} times is right",
    "See whether the reward pays for length alone (reward/accuracy_longer of"
    " the reward model's results: how often labelers prefer the longer one);"
    " compare at equal length, take the length out of the reward"
    " (config.reward.length), or raise the KL coefficient (Singhal et al. 2023,"
    " 'A long way to go'; DAPO's overlong punishment, Yu et al. 2025).",
    follows=("ratio_off_one", "kl_negative", "kl_exploding", "end_missing",
             "duplicated_responses"),
  )  # fmt: skip


def end_missing(run: record.Record) -> finding.Finding | None:
  """Healthy runs: 98 % and more of the responses end by themselves."""
  ended = run.series("response/end_rate")
  if not ended or ended.end >= _ENDED:
    return None
  mode = run.setting("rl.missing_end")
  longest = run.setting("data.response_length")
  return finding.Finding(
    "end_missing",
    f"{ended.at_end} with rl.missing_end={mode} and"
    f" data.response_length={longest}, at least {_ENDED:g} is right: the rest"
    " is cut off, and judged as it is",
    "Give responses without an end a fixed low score (rl.missing_end=fixed,"
    " Ziegler et al. 2019; README, detail 4), raise data.response_length above"
    " what demonstrations need, and see that SFT learned the end-of-text token:"
    " it is a token of the loss, and padding is not (README, detail 5).",
    follows=(
      "ratio_off_one",
      "kl_negative",
      "kl_exploding",
      "duplicated_responses",
    ),
  )


def duplicated_responses(run: record.Record) -> finding.Finding | None:
  """One response to different prompts. Of six samples or more at a time half
  are not alike in any healthy run; of the evaluation's thousand responses the
  commonest is at most 4 %."""
  few = {
    str(row.get("prompt")): row.get("response") for row in run.last_samples
  }
  if len(few) >= _SAMPLES and (said := _alike(few, _SAME)):
    step = run.last_samples[0]["step"]
    where = f"of {len(few)} samples at step {step} (samples.jsonl)"
  elif many := _evaluated(run):
    said = _alike(many, _SAME_OF_MANY) if len(many) >= _MANY else ""
    where = f"of {len(many)} responses to the test prompts (responses.jsonl)"
  else:
    return None
  if not said:
    return None
  return finding.Finding(
    "duplicated_responses",
    f"{said} {where}: the same is said whatever is asked",
    "See that the prompt reaches the policy (template, padding on the left,"
    " positions); else the reward pays for this answer anywhere: look at its"
    " score in samples.jsonl, mend the reward, and raise the KL coefficient"
    " (mode collapse under RL: the paper's KL penalty a token, section 3.5).",
    follows=("ratio_off_one",),
  )


def _evaluated(run):
  found = {}
  for row in record.lines(run.folder / "responses.jsonl"):
    of_all = row.get("responses")
    said = of_all.get(run.subject) if isinstance(of_all, dict) else None
    if isinstance(said, dict):
      found[str(row.get("prompt"))] = said.get("text")
  return found


def _alike(by_prompt, limit):
  """'5 times "sorry ."', where one response has more than its share."""
  texts = [" ".join(str(text).lower().split()) for text in by_prompt.values()]
  text, count = collections.Counter(texts).most_common(1)[0]
  if count < limit * len(texts):
    return ""
  return f"{count} times {text[:60]!r}"


FINDINGS = (length_drift, end_missing, duplicated_responses)

"""Whether a reward knows what people prefer, and what following it does."""

import math
import statistics

from instruct_jax.doctor import finding, record

_CHANCE = 0.55
_GAP = 0.15
_OFF = 2.0
_FALL = 0.05
_MOVED = 0.02
_SURE = 2.0


def reward_model_at_chance(run: record.Record) -> finding.Finding | None:
  """A coin agrees with labelers on half of the pairs. Where the evaluation
  gives an interval, at chance is one that reaches 0.5 around 0.55 or less (few
  pairs leave wide ones); else validation accuracy of 0.55 or less. Healthy
  runs: 0.62 to 0.68; the paper's: 0.70 to 0.72."""
  if run.algorithm != "rm":
    return None
  rows = [
    row
    for row in run.table("reward")
    if str(row.get("metric", "")).startswith("reward/accuracy/")
    and all(isinstance(row.get(key), float) for key in ("value", "low", "high"))
  ]
  accuracy = run.series("validation/rankings/accuracy")
  if rows:
    rows = [r for r in rows if r["low"] <= 0.5 and r["value"] <= _CHANCE]
    if not rows:
      return None
    said = ", ".join(
      f"{row['metric']} {row['value']:.3f} [{row['low']:.3f},"
      f" {row['high']:.3f}]"
      for row in rows
    )
  elif accuracy and accuracy.values[-1] <= _CHANCE:
    said = (
      f"{accuracy.name} {accuracy.values[-1]:.3f} at step"
      f" {accuracy.steps[-1]}, above {_CHANCE:g} is right"
    )
  else:
    return None
  return finding.Finding(
    "reward_model_at_chance",
    f"{said}: it prefers what labelers prefer as often as a coin does",
    "See that ranks are read the right way round (1 is best) and belong to"
    " their responses, that labelers agree with each other (the paper: 73 % of"
    " pairs, and its reward model 72 %), and that the score is read at the"
    " response's last token; then more rankings or a higher learning rate. Do"
    " not optimise against it.",
    follows=("diverged", "updates_skipped", "reward_model_overfits"),
  )


def reward_model_overfits(run: record.Record) -> finding.Finding | None:
  """Accuracy in training less that on validation: within 0.05 in healthy runs,
  whose last third of logged batches has a median within 0.05 of its own. Or a
  validation log loss above log 2, which a coin has."""
  if run.algorithm != "rm":
    return None
  trained = run.long("rankings/accuracy")
  held_out = run.series("validation/rankings/accuracy")
  loss = run.series("validation/rankings/log_loss")
  if not trained or not held_out:
    return None
  gap = trained.end - held_out.values[-1]
  too_sure = loss is not None and (
    loss.values[-1] > max(math.log(2), min(loss.values) + 0.05)
  )
  if gap <= _GAP and not too_sure:
    return None
  said = ""
  if loss:
    said = f", and {loss.name} {loss.values[-1]:.3g} (a coin: 0.693)"
  return finding.Finding(
    "reward_model_overfits",
    f"{trained.at_end}, but {held_out.name} {held_out.values[-1]:.3f} at step"
    f" {held_out.steps[-1]}{said}; at most {_GAP:g} apart is right",
    "Train for one epoch (the paper, appendix C.2: it overfits quickly with"
    " more), all pairs of a prompt in one batch element (section 3.5: else each"
    " completion is repeated K - 1 times), on more prompts; weight decay; a"
    " smaller model.",
  )


def preferences_not_learned(run: record.Record) -> finding.Finding | None:
  """DPO's own reward on validation pairs; a coin has 0.5. Healthy: 0.70 to
  0.74 where it is trained for an epoch."""
  accuracy = run.series("validation/rewards/accuracy") or run.long(
    "rewards/accuracy"
  )
  if not accuracy or accuracy.end > _CHANCE:
    return None
  return finding.Finding(
    "preferences_not_learned",
    f"{accuracy.at_end}, above {_CHANCE:g} is right: the policy prefers what"
    " labelers prefer as often as a coin does",
    "See that ranks are read the right way round (1 is best) and belong to"
    " their responses, and that labelers agree with each other; then raise the"
    " learning rate or dpo.beta (Rafailov et al. 2023, appendix B: beta 0.1).",
    follows=("diverged", "updates_skipped", "nothing_moves"),
  )


def reward_not_centred(run: record.Record) -> finding.Finding | None:
  """A reward model's bias makes demonstrations score 0 on average (section
  3.5). What the starting policy says scores within 0.3 of that in healthy
  runs; 2 nats away it would win, or lose, 88 % against demonstrations."""
  score = run.series("reward/model")
  if not score or abs(score.values[0]) <= _OFF:
    return None
  return finding.Finding(
    "reward_not_centred",
    f"{score.name} is {score.values[0]:.3g} at step {score.steps[0]}, where the"
    f" policy is the one that it started from; within {_OFF:g} of 0 is right",
    "Shift the reward model's bias so that demonstrations score 0 on average"
    " before RL (the paper, section 3.5: the loss does not know of a shift);"
    " rl.missing_end_value=-1 and the value network's first steps mean"
    " something only then.",
    follows=("ratio_off_one",),
  )


def reward_not_rising(run: record.Record) -> finding.Finding | None:
  """The policy has moved, but its score is not above where it began. Healthy
  runs gain 0.1 to 0.5 at 0.1 nats a token. Best-of-n from the policy that the
  run began with is not judged: there the score stays by design."""
  score = run.long("objective/score")
  kl = run.series("objective/kl_per_token")
  if not score or not kl or run.setting("rl.sampler") == "start":
    return None
  if abs(kl.end) <= _MOVED or _gain(score)[0] > 0:
    return None
  return finding.Finding(
    "reward_not_rising",
    f"{score.way}, at {kl.at_end} nats: the policy moves, but not to where the"
    " reward is",
    "See that each response has its own score (no shuffling between sampling,"
    " scoring and minibatches) and that its advantage has the right sign; then"
    " a larger batch (the paper: 512 episodes in 8 minibatches), a lower"
    " learning rate, a smaller KL coefficient. Reward rises with the root of KL"
    " (Gao et al. 2023): KL without reward is noise.",
    follows=("ratio_off_one", "kl_negative", "kl_exploding", "diverged",
             "updates_skipped", "value_not_explaining", "end_missing",
             "advantages_zero", "entropy_collapse", "everything_clipped"),
  )  # fmt: skip


def reward_up_judge_down(run: record.Record) -> finding.Finding | None:
  """In the run, where a judge looks on: the score is up by two of its standard
  errors and the judge's is down by 0.05 of its 0 to 1 (0.3 on the scale of 1
  to 7); healthy runs: PPO, RLOO and GRPO at most 0.02 down. Or in the
  evaluation: the reward prefers it to the baseline and labelers do not, by an
  interval below a half."""
  said = _way_down(run) or _against_labelers(run)
  if not said:
    return None
  return finding.Finding(
    "reward_up_judge_down",
    f"{said}: the policy finds what the reward pays for and people do not want",
    "Stop at the KL where the judge is best, raise the KL coefficient, rank the"
    " new policy's responses and train the reward model anew (the paper,"
    " section 3.4; iterated.py), or let several reward models judge (Coste et"
    " al. 2023). It is over-optimisation (Gao et al. 2023), or a reward with"
    " the wrong sign.",
    follows=("kl_exploding", "length_drift", "duplicated_responses",
             "entropy_collapse", "ratio_off_one", "kl_negative",
             "end_missing"),
  )  # fmt: skip


def _way_down(run):
  score, judge = run.long("objective/score"), run.long("judge/score")
  if not score or not judge:
    return ""
  rise, error = _gain(score)
  if rise <= _SURE * error or _gain(judge)[0] >= -_FALL:
    return ""
  return f"{score.way}, while {judge.way}"


def _against_labelers(run):
  baseline = run.setting("evaluation.baseline", "")
  wins = run.metric(f"score_wins/{run.subject}_over_{baseline}")
  rows = [
    row
    for row in run.table("preference")
    if row.get("subject") == run.subject and row.get("baseline") == baseline
  ]
  lost = [
    row
    for row in rows
    if all(isinstance(row.get(key), float) for key in ("value", "low", "high"))
    and row["high"] < 0.5
  ]
  if not lost or wins is None or wins <= 0.5:
    return ""
  row = lost[0]
  return (
    f"the reward prefers {run.subject} to {baseline} in {wins:.0%} of the"
    f" evaluation's prompts, {row.get('labelers', 'labelers')} labelers in"
    f" {row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
  )


def _gain(series):
  """The late third's mean less the early one's, and its standard error."""
  error = math.sqrt(
    sum(
      statistics.variance(part) / len(part)
      for part in (series.early, series.late)
      if len(part) > 1
    )
  )
  return statistics.mean(series.late) - statistics.mean(series.early), error


FINDINGS = (
  reward_model_at_chance,
  reward_model_overfits,
  preferences_not_learned,
  reward_not_centred,
  reward_not_rising,
  reward_up_judge_down,
)

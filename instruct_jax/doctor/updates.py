"""Whether updates happen, and whether what is trained learns from them."""

import math

from instruct_jax.doctor import finding, record

_SKIPPED = 0.01
_EXPLAINED = 0.2
_EQUAL = 0.5
_FORGOTTEN = 0.1
_FALLEN, _NOISE = 0.05, 0.3  # shares of the loss in training
_STILL = 0.005  # of that on validation
_LOSSES = ("demonstrations/loss", "pretraining/loss")


def diverged(run: record.Record) -> finding.Finding | None:
  """Training stops after `max_skipped` updates in a row that were not finite,
  without results; or its last logged step is one of those."""
  if not run.log or run.results:
    return None
  last = run.log[-1]
  skipped = run.series("count/skipped_in_a_row")
  points = list(zip(skipped.steps, skipped.values)) if skipped else []
  in_a_row = points[-1][1] if points else 0.0
  bad = [
    name
    for name, x in last.items()  # A mean over nothing is no number, too.
    if _is_not_finite(x) and (name.endswith("/loss") or "gradient" in name)
  ]
  if not bad and not in_a_row:
    return None
  first = min((n for n, x in points if x), default=last["step"])
  named = f"; not finite there: {', '.join(sorted(bad)[:4])}" if bad else ""
  return finding.Finding(
    "diverged",
    f"the run has no results and its last logged step, {last['step']}, ends in"
    f" {in_a_row:.0f} updates in a row that were not finite"
    f" (max_skipped={run.setting('max_skipped', '?')}); the first of them is"
    f" logged at step {first}{named}",
    "Where scores or rewards are not finite before the losses are, mend them;"
    " else lower the learning rate, warm it up for longer and clip gradients at"
    " 1 (the paper, appendix C.4: PPO diverged above 8.05e-6, and warms up over"
    " 10 iterations). The last good checkpoint is kept, and the same command"
    " goes on from it.",
  )


def updates_skipped(run: record.Record) -> finding.Finding | None:
  """Healthy runs skip none. Mixed precision with loss scaling skips an update
  in some thousand (Micikevicius et al. 2018); 1 % is more than that."""
  skipped = run.series("count/skipped")
  if not skipped:
    return None
  each = (run.number("rl.minibatches") or 1) * (
    run.number("rl.inner_epochs") or 1
  )
  share = skipped.values[-1] / max(1, skipped.steps[-1] * each)
  if share < _SKIPPED:
    return None
  first = next(step for step, x in zip(skipped.steps, skipped.values) if x)
  return finding.Finding(
    "updates_skipped",
    f"{skipped.name} is {skipped.values[-1]:.0f} at step {skipped.steps[-1]},"
    f" {share:.0%} of all updates, the first of them by step {first}: a loss or"
    " a gradient was not finite",
    "Look which metric of metrics.jsonl is NaN in those steps, the rewards"
    " first: a score that is no number makes every advantage of its iteration"
    " none. If it is the loss, lower the learning rate or warm it up for longer"
    " (the paper: over 10 iterations, appendix C.4).",
    follows=("diverged",),
  )


def value_not_explaining(run: record.Record) -> finding.Finding | None:
  """The share of the returns' variance that values explain: 0 is no better
  than their mean. Healthy runs start at -1.5 to 0.2, and end at 0.7 to 0.95."""
  explained = run.long("value/explained_variance")
  if not explained or explained.end >= _EXPLAINED:
    return None
  rate = run.series("optimizer/value_learning_rate")
  said = f", with a learning rate of {rate.end:.2g}" if rate else ""
  return finding.Finding(
    "value_not_explaining",
    f"{explained.at_end}{said}, at least {_EXPLAINED:g} is right: advantages"
    " are hardly less noisy than returns",
    "Start the value network from the reward model (the paper, appendix C.4),"
    " raise optimizer.value.learning_rate, and see that returns are computed"
    " before advantages are whitened and that value_clip is not far below the"
    " spread of returns (Huang et al. 2022, details 8 and 9: explained variance"
    " is what to look at).",
    follows=("ratio_off_one", "updates_skipped", "diverged", "kl_exploding"),
  )


def advantages_zero(run: record.Record) -> finding.Finding | None:
  """Of a group whose responses all have one reward every advantage is 0 (Yu et
  al. 2025, section 3.2). Healthy runs: below 0.26 of the groups."""
  equal = run.series("groups/equal_scores") or run.series("groups/zero_std")
  size = run.number("rl.group_size") or 2.0
  # Where a reward is right or wrong a small group is often equal by chance.
  limit = _EQUAL + (1 - _EQUAL) * 0.5 ** (size - 1)
  if not equal or equal.end <= limit:
    return None
  return finding.Finding(
    "advantages_zero",
    f"{equal.at_end}, at most {limit:.2g} is right: in so many groups"
    f" (rl.group_size={size:g}) all responses have the same reward, so none is"
    " learned to be better than another",
    "Take a reward that tells responses apart, prompts that are neither too"
    " easy nor too hard, a larger group or a higher temperature; or leave such"
    " groups out and sample others (dynamic sampling of DAPO, Yu et al. 2025,"
    " section 3.2).",
  )


def ptx_forgetting(run: record.Record) -> finding.Finding | None:
  """With text mixed in its loss falls: by 0.02 to 0.13 nats a token in healthy
  runs, whose thirds have medians within 0.03 of what they would be."""
  loss = run.long("ptx/loss")
  if not loss or loss.end - loss.start <= _FORGOTTEN:
    return None
  coefficient = run.number("rl.ptx_coef") or 0.0
  return finding.Finding(
    "ptx_forgetting",
    f"{loss.way}, a rise of {loss.end - loss.start:.2g} nats a token with"
    f" rl.ptx_coef={coefficient:g}; at most {_FORGOTTEN:g} is right: the policy"
    " forgets the text that is mixed in so that it does not",
    "Raise rl.ptx_coef (the paper: 27.8, chosen so that the regressions on"
    " public sets vanish, figure 33; more KL penalty does not do it, figure"
    " 34), read more text an iteration (8 rows an episode), and see that the"
    " term is added to the loss with its sign.",
    follows=("ratio_off_one", "kl_exploding", "diverged", "updates_skipped"),
    since=loss.first_above(loss.values[0] + _FORGOTTEN),
  )


def not_learned(run: record.Record) -> finding.Finding | None:
  """Of supervised training: the loss on its own data falls, by 60 % or more in
  healthy SFT and by 80 % in pretraining. Not learned is less than 5 %; or less
  than 30 %, within a batch's noise, where the loss on validation does not move
  by half a per cent in all (healthy: by 3 % or more, up or down)."""
  if run.algorithm != "sft":
    return None
  losses = [run.long(name) for name in _LOSSES]
  said = [loss for loss in losses if loss]
  if not said or not all(_stands(run, loss) for loss in said):
    return None
  held_out = [run.series(f"validation/{loss.name}") for loss in said]
  ways = [loss.way for loss in (*said, *held_out) if loss]
  rate = run.series("optimizer/policy_learning_rate")
  with_rate = f", with learning rates to {max(rate.values):.2g}" if rate else ""
  return finding.Finding(
    "not_learned",
    f"{'; '.join(ways)}{with_rate}: what is trained on is not learned",
    "Where the loss stays, raise the learning rate; where it rises, lower it by"
    " ten (the paper's SFT: 9.65e-6 for 1.3B and 6B, cosine to 10 %, 16 epochs,"
    " appendix C.1; small models take 1e-4 to 1e-3). See that the loss is on"
    " the responses' tokens and that the parameters are not frozen.",
    follows=("diverged", "updates_skipped"),
  )


def _stands(run, loss):
  held_out = run.series(f"validation/{loss.name}")
  seen = held_out.values if held_out and len(held_out) > 1 else ()
  fallen = 1 - loss.end / max(loss.values[0], loss.start)
  if seen and max(seen) - min(seen) <= _STILL * max(seen):
    return fallen < _NOISE
  return fallen < _FALLEN and not (seen and min(seen) < 0.95 * seen[0])


def _is_not_finite(value):
  return isinstance(value, float) and not math.isfinite(value)


FINDINGS = (
  diverged,
  updates_skipped,
  value_not_explaining,
  advantages_zero,
  ptx_forgetting,
  not_learned,
)

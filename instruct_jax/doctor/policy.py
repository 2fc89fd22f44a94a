"""How far a policy goes, and by which steps."""

from instruct_jax.doctor import finding, record

_RATIO = 0.01
_NEGATIVE = 0.1
_FAR = 1.0
_NEAR = 1e-3
_COLLAPSED = 0.45
_CLIPPED = 0.25
_FLAT = 0.5


def ratio_off_one(run: record.Record) -> finding.Finding | None:
  """In the first minibatch of an iteration the policy is still the one that
  sampled, so its ratio is 1 but for rounding. Healthy runs: within 4e-7 in
  float32; bfloat16 rounds a log-probability of a few nats by less than 0.01."""
  ratios = run.series("policy/ratio_first_minibatch")
  if not ratios:
    return None
  off, step, ratio = max(
    (abs(x - 1), step, x) for step, x in zip(ratios.steps, ratios.values)
  )
  if off <= _RATIO:
    return None
  return finding.Finding(
    "ratio_off_one",
    f"{ratios.name} is {ratio:.4g} at step {step}, 1 within {_RATIO} is right:"
    " what was stored as the sampler's log-probabilities is not what the same"
    " parameters say of the same tokens",
    "Compute both by one forward path, with the same tokens, positions,"
    " temperature and mask and without dropout, before the first update (the"
    " check of Huang et al. 2022, 'The 37 Implementation Details of PPO':"
    " ratios of 1 in the first epoch's first minibatch; README, details 1 and"
    " 14).",
  )


def kl_negative(run: record.Record) -> finding.Finding | None:
  """KL(π, π_ref) is at least 0; its estimate, the mean of log π / π_ref over
  episodes that π sampled, has variance 2 KL / episodes to second order. So a
  mean below 0 by three of its deviations, -3 sqrt(2 |KL| / episodes), is one
  below - 18 / episodes; at least 0.1 nats. Healthy runs: never below -1e-4."""
  kl = run.series("objective/kl")
  if not kl:
    return None
  counts = run.series("count/episodes")
  episodes = min(counts.values) if counts else 1.0
  limit = -max(_NEGATIVE, 18 / max(episodes, 1.0))
  low = [(step, x) for step, x in zip(kl.steps, kl.values) if x < limit]
  if not low:
    return None
  step, value = min(low, key=lambda point: point[1])
  return finding.Finding(
    "kl_negative",
    f"{kl.name} is {value:.3g} nats at step {step} and below {limit:.2g} at"
    f" {len(low)} of {len(kl)} logged steps; no KL is negative, and of"
    f" {episodes:.0f} episodes chance does not make it so",
    "The tokens were not sampled by the policy whose log-probabilities are"
    " compared: sample at the temperature at which they are computed, without"
    " top-k or top-p or a forced length, and subtract the reference's from the"
    " policy's (README, detail 3; the same cause is known of TRL, whose"
    " documentation warns that a negative KL means wrong generation settings)."
    " The policy is paid for it as it is.",
    follows=("ratio_off_one",),
  )


def kl_exploding(run: record.Record) -> finding.Finding | None:
  """Healthy runs end at 0.05 to 0.17 nats a token (DPO, on its data, at 0.17
  to 0.40); Ziegler et al. 2019 and Stiennon et al. 2020 go to about 0.4, where
  people already liked answers less than those nearer to SFT. At 1 nat a token
  the reference gives what the policy says a probability e times smaller at
  each token."""
  kl = run.series("objective/kl_per_token") or run.series(
    "policy/forward_kl_per_token"
  )
  if not kl or kl.end <= _FAR:
    return None
  coefficient = run.number("rl.kl_coef")
  if coefficient is None:
    coefficient = run.number("dpo.beta")
  said = "" if coefficient is None else f"; its coefficient is {coefficient:g}"
  return finding.Finding(
    "kl_exploding",
    f"{kl.at_end} nats, at most {_FAR:g} is right{said}",
    "Raise the KL coefficient (rl.kl_coef, dpo.beta; the paper: 0.02) or let it"
    " adapt (rl.kl_target, Ziegler et al. 2019, equation 4), lower the learning"
    " rate of the policy, or stop earlier: beyond its optimum in KL the true"
    " reward falls (Gao et al. 2023, 'Scaling laws for reward model"
    " overoptimization'; section 3.5 of the paper: a penalty a token against"
    " over-optimisation of the reward model).",
    follows=("ratio_off_one", "kl_negative", "duplicated_responses",
             "ptx_forgetting"),
    since=kl.first_above(_FAR),
  )  # fmt: skip


def entropy_collapse(run: record.Record) -> finding.Finding | None:
  """Healthy runs keep 70 % or more of the entropy that they start with. 45 %
  is well beyond that; where entropy is used up it goes on to nothing (Cui et
  al. 2025, 'The entropy mechanism of RL for reasoning language models')."""
  entropy = run.long("policy/entropy")
  if not entropy or entropy.end >= _COLLAPSED * entropy.values[0]:
    return None
  return finding.Finding(
    "entropy_collapse",
    f"{entropy.at_end} nats a token, {entropy.end / entropy.values[0]:.0%} of"
    f" the {entropy.values[0]:.3g} at step {entropy.steps[0]}; at least"
    f" {_COLLAPSED:.0%} is right: the policy samples less and less that"
    " differs, and what has nothing to compare with stops learning",
    "Raise the KL coefficient or lower the policy's learning rate; look for a"
    " term that pays for certainty (an entropy bonus with the wrong sign); clip"
    " upwards less (clip-higher of DAPO, Yu et al. 2025, section 3.1, keeps"
    " entropy up).",
    follows=("ratio_off_one", "duplicated_responses", "kl_exploding"),
  )


def everything_clipped(run: record.Record) -> finding.Finding | None:
  """Usual are 0.1 to 0.2 or less (Huang et al. 2022). Healthy runs: PPO and
  GRPO below 0.06, whose ratios are a token's, RLOO below 0.21, whose ratios
  are a response's. Only where the bound binds does one count, which is about
  half of the tokens at most: a quarter is much."""
  clipped = run.long("policy/clip_fraction")
  if not clipped or clipped.end <= _CLIPPED:
    return None
  clip = run.number("rl.clip")
  said = "" if clip is None else f" with rl.clip={clip:g}"
  return finding.Finding(
    "everything_clipped",
    f"{clipped.at_end}{said}, at most {_CLIPPED:g} is right: much of what is"
    " sampled gives no gradient",
    "rl.clip=0.2 (the paper, appendix C.4; Schulman et al. 2017) with fewer"
    " minibatches or inner epochs (the paper: 8 and 1) or a lower learning rate"
    " of the policy, so that an iteration's updates stay near its sampler.",
    follows=("ratio_off_one", "kl_exploding", "kl_negative"),
  )


def nothing_moves(run: record.Record) -> finding.Finding | None:
  """Healthy runs end at 0.05 nats a token or more, and are beyond 0.001 in
  their second or third step."""
  kl = run.long("objective/kl_per_token", "policy/forward_kl_per_token")
  if not kl or max(map(abs, kl.late)) >= _NEAR:
    return None
  score = run.series("objective/score")
  rate = run.series("optimizer/policy_learning_rate")
  said = f", {score.way}" if score else ""
  with_rate = f", with a learning rate of {rate.end:.2g}" if rate else ""
  return finding.Finding(
    "nothing_moves",
    f"{kl.at_end} nats{said}{with_rate}: the policy is still the one that it"
    " started from",
    "Raise optimizer.policy.learning_rate (the paper swept it from 2.55e-6 to"
    " 2.55e-5, appendix C.4; small models take 1e-4 to 1e-3), end the warm-up"
    " sooner, lower the KL coefficient, and see that the"
    " optimizer has the policy's parameters and none is frozen (config.freeze,"
    " config.lora).",
    follows=("advantages_zero", "everything_clipped", "updates_skipped",
             "diverged"),
  )  # fmt: skip


FINDINGS = (
  ratio_off_one,
  kl_negative,
  kl_exploding,
  entropy_collapse,
  everything_clipped,
  nothing_moves,
)

"""What `tests/mutations.py` mutates, and what is known of its mutants."""

_STEP = (
  "tests/step_test.py",
  "tests/wiring_test.py",
  "tests/algorithms_test.py",
)
_ALGORITHMS = (
  "tests/wiring_test.py",
  "tests/episodes_test.py",
  "tests/algorithms_test.py",
  "tests/step_test.py",
)
_GROUPS = ("tests/groups_test.py", "tests/step_test.py")
_EVALS = (
  "tests/evals_bench_test.py",
  "tests/wiring_test.py",
  "tests/evals_suite_test.py",
  "tests/evals_registry_test.py",
)

# Module -> the tests nearest to it, the quickest to notice first.
TARGETS = {
  "instruct_jax/maths/rl.py": ("tests/rl_test.py",),
  "instruct_jax/maths/preferences.py": ("tests/preferences_test.py",),
  "instruct_jax/maths/statistics.py": ("tests/statistics_test.py",),
  "instruct_jax/maths/agreement.py": ("tests/agreement_test.py",),
  "instruct_jax/maths/strengths.py": ("tests/strengths_test.py",),
  "instruct_jax/maths/length_control.py": ("tests/length_control_test.py",),
  "instruct_jax/scoring/comparisons.py": ("tests/scoring_comparisons_test.py",),
  "instruct_jax/scoring/rankings.py": ("tests/scoring_people_test.py",),
  "instruct_jax/scoring/judgments.py": ("tests/scoring_people_test.py",),
  "instruct_jax/measuring/judges.py": ("tests/sets_preference_test.py",),
  "instruct_jax/scoring/model_judge.py": ("tests/model_judge_test.py",),
  "instruct_jax/scoring/endpoint.py": ("tests/model_judge_test.py",),
  "instruct_jax/maths/ratios.py": ("tests/ratios_test.py",),
  "instruct_jax/figures/criteria.py": ("tests/figures_claims_test.py",),
  "instruct_jax/figures/effects.py": ("tests/figures_claims_test.py",),
  "instruct_jax/figures/verdicts.py": ("tests/figures_claims_test.py",),
  "instruct_jax/figures/expected.py": ("tests/figures_tables_test.py",),
  "instruct_jax/models/heads.py": ("tests/heads_test.py",),
  "instruct_jax/inference/generate.py": (
    "tests/generate_test.py",
    "tests/wiring_test.py",
  ),
  "instruct_jax/inference/slots.py": ("tests/slots_test.py",),
  "instruct_jax/inference/choice.py": ("tests/generate_test.py",),
  "instruct_jax/inference/respond.py": (
    "tests/respond_test.py",
    "tests/sample_test.py",
  ),
  "instruct_jax/inference/rewards.py": (
    "tests/rewards_test.py",
    "tests/wiring_test.py",
  ),
  "instruct_jax/algorithms/ppo.py": _ALGORITHMS,
  "instruct_jax/algorithms/episodes.py": _ALGORITHMS,
  "instruct_jax/algorithms/iteration.py": _ALGORITHMS,
  "instruct_jax/algorithms/groups.py": _GROUPS,
  "instruct_jax/maths/groups.py": _GROUPS,
  "instruct_jax/algorithms/best_of_n.py": ("tests/best_of_n_test.py",),
  "instruct_jax/algorithms/dpo.py": ("tests/dpo_test.py",),
  "instruct_jax/algorithms/rm.py": _ALGORITHMS,
  "instruct_jax/algorithms/sft.py": _ALGORITHMS,
  "instruct_jax/training/gradient.py": _STEP,
  "instruct_jax/training/step.py": _STEP,
  "instruct_jax/evals/bench.py": _EVALS,
  "instruct_jax/evals/select.py": _EVALS,
  "instruct_jax/evals/loss.py": _EVALS,
  "instruct_jax/evals/reward.py": (
    *_EVALS,
    "tests/evals_pairs_test.py",
    "tests/evals_baselines_test.py",
  ),
  "instruct_jax/evals/pairs.py": ("tests/evals_pairs_test.py",),
  "instruct_jax/evals/folds.py": ("tests/folds_test.py",),
  "instruct_jax/labeling/folds.py": ("tests/folds_test.py",),
  "instruct_jax/maths/best_of.py": ("tests/best_of_test.py",),
  "instruct_jax/models/vocabulary.py": ("tests/vocabulary_test.py",),
  "instruct_jax/parallel/layouts.py": (
    "tests/layouts_test.py",
    "tests/decoding_test.py",
  ),
  "instruct_jax/training/placing.py": (
    "tests/layouts_test.py",
    "tests/step_test.py",
  ),
  "instruct_jax/inference/decoding.py": ("tests/decoding_test.py",),
  "instruct_jax/base/imports.py": ("tests/imports_test.py",),
  "instruct_jax/planning/collectives.py": (
    "tests/planning_hlo_test.py",
    "tests/planning_test.py",
  ),
}

# (module, before, after): bugs in the wiring that tests once did not notice.
NAMED = [
  (  # The reference is the current policy: KL identically 0.
    "instruct_jax/algorithms/episodes.py",
    'ctx, params["policy"], frozen["reference"], params.get("value"),',
    'ctx, params["policy"], params["policy"], params.get("value"),',
  ),
  (  # The decode loop's position is off by one.
    "instruct_jax/inference/slots.py",
    "positions = slots.length + slots.count - 1",
    "positions = slots.length + slots.count",
  ),
  (  # The temperature does not reach the sampler ...
    "instruct_jax/algorithms/episodes.py",
    "respond.policy_of(ctx, policy, temperature=temperature)",
    "respond.policy_of(ctx, policy)",
  ),
  (  # ... the scoring ...
    "instruct_jax/algorithms/episodes.py",
    "ctx.policy, policy, sequences, temperature=ctx.config.rl.temperature",
    "ctx.policy, policy, sequences",
  ),
  (  # ... or the update.
    "instruct_jax/algorithms/ppo.py",
    'ctx.policy, params["policy"], rows, temperature=config.temperature',
    'ctx.policy, params["policy"], rows',
  ),
  (  # Dropout stays on in RL.
    "instruct_jax/models/forward.py",
    "return _read_response(model, params, sequences, None, None, read)",
    "return _read_response(model, params, sequences, None, "
    "jax.random.key(0), read)",
  ),
  (  # Tokens after the end count in the reported KL.
    "instruct_jax/algorithms/iteration.py",
    "kl = jnp.where(is_response, scored.logprobs - scored.ref_logprobs, 0.0)",
    "kl = scored.logprobs - scored.ref_logprobs",
  ),
]

_MASKED = "only where the mask, or the test before it, throws it away"

# (module, before, after) -> why nothing that matters changes.
EQUIVALENT = {
  (
    "instruct_jax/inference/slots.py",
    "is_prompt = mine.is_prompt & is_new.reshape(-1, 1)",
    "is_prompt = mine.is_prompt & jnp.ones_like(is_new, bool).reshape(-1, 1)",
  ): "what is read for a slot of nobody is dropped; it costs time only",
  (
    "instruct_jax/maths/rl.py",
    "index = jnp.arange(is_response.shape[1], dtype=jnp.int32)",
    "index = jnp.arange(is_response.shape[1], )",
  ): "int32 is what arange gives where 64 bits are off, as they are here",
  (
    "instruct_jax/training/gradient.py",
    "return jax.tree.map(jnp.add, total, one(i))",
    "return jax.tree.map(jnp.add, one(i), total)",
  ): "a sum of two, in the other order",
  (
    "instruct_jax/maths/statistics.py",
    "error = math.sqrt(_between(sums)) / len(values)",
    "error = math.sqrt(_between(sums)) / len(clusters)",
  ): "values and clusters have one length, or _check_values raises",
  (
    "instruct_jax/maths/rl.py",
    "jnp.where(is_response, jnp.asarray(x, jnp.float32), jnp.float32(0))",
    "jnp.where(is_response, jnp.asarray(x, jnp.float32), jnp.float32(1))",
  ): _MASKED,
  (
    "instruct_jax/maths/rl.py",
    "log_ratio = jnp.where(is_response, log_ratio, jnp.float32(0))",
    "log_ratio = jnp.where(is_response, log_ratio, jnp.float32(1))",
  ): _MASKED,
  (
    "instruct_jax/maths/rl.py",
    "share = left / jnp.where(varies, total, jnp.float32(1))",
    "share = left / jnp.where(varies, total, jnp.float32(2))",
  ): _MASKED,
}

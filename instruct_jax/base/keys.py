"""The keys of a config, dotted: 'rl.kl_coef' is `config.rl.kl_coef`.

MEANINGS says what each is; a test holds that every key of every experiment is
there. A `*` stands for a name that the experiment chooses: a role (policy,
value, reward), a kind of data, a need.
"""

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from instruct_jax.base import errors

MEANINGS = {
  "algorithm": "what trains: a name of algorithms/, or a module's import path",
  "batch.pretraining": "rows of text a step; 0: none",
  "batch.*": "rows of this kind a step (prompts: episodes an iteration)",
  "candidates.batch": "responses sampled at once",
  "candidates.chunk": "prompts that are saved together",
  "candidates.k_max": "most responses a prompt",
  "candidates.k_min": "fewest responses a prompt",
  "candidates.round": "of iterating steps 2 and 3: whom they are for",
  "candidates.sources.*.policy": "the need that answers",
  "candidates.sources.*.prompted": "told first that an assistant answers",
  "candidates.sources.*.share": "of the responses",
  "candidates.sources.*.temperature": "that it answers at",
  "candidates.*": "new prompts of this split that are answered, at most",
  "data.demonstrations": "files of demonstrations: path, pattern, A=0.7,B=0.3",
  "data.k_max": "most responses of a ranking; 0: as the rankings have",
  "data.loss_on": "which answers of a conversation count: all, or the last",
  "data.packing": "several texts or demonstrations a row, kept apart",
  "data.per_user": "most prompts kept of one user",
  "data.prefix": "prompts that share this many characters are duplicates",
  "data.pretraining": "files of text",
  "data.prompt_length": "tokens; longer prompts are dropped",
  "data.prompts": "files of prompts",
  "data.quality": "microworld: share of demonstrations that are ideal",
  "data.rankings": "files of rankings",
  "data.remove_pii": "take personal data out of training prompts",
  "data.response_length": "tokens; longer responses are cut",
  "data.row_length": "tokens of a row of text, or of a packed row",
  "data.sizes.*": "microworld: rows of the training, validation, test splits",
  "data.source": "microworld, files, or a module of your own with a WORLD",
  "data.start": "in front of a prompt: reference, none, end_of_text or bos",
  "data.template": "what is put around a prompt: a name, or text with {prompt}",
  "data.test_fraction": "share of the prompts that are kept for tests",
  "data.tokenizer": "word, unigram, bpe, byte, or hf:/path of one",
  "data.tokenizer_sample": "most characters of text a tokenizer is trained on",
  "data.validation_fraction": "share of the prompts kept for validation",
  "data.vocab_size": "entries of a tokenizer that is trained",
  "data.world_seed": "microworld: which world",
  "dpo.beta": "of the log-ratios in the reward; IPO's tau",
  "dpo.label_smoothing": "share of the labels taken for wrong (sigmoid)",
  "dpo.loss": "of a pair: sigmoid (DPO) or ipo",
  "dpo.per_token": "log-ratios are means over tokens (TRL's IPO), not sums",
  "dpo.ptx_coef": "gamma: of the pretraining loss; 0 is DPO without ptx",
  "ema.*": "decay of this role's averaged weights, an update",
  "epoch_of": "the kind of data whose rows, seen once, make an epoch",
  "epochs": "passes over epoch_of; 0 where steps are given",
  "evaluation.always": "also where the run is only needed by another",
  "evaluation.baseline": "the subject that others are compared with",
  "evaluation.batch": "responses sampled at once",
  "evaluation.extra": "evaluations of your own: package.module:function,...",
  "evaluation.judged_prompts": "closed-domain prompts, and those for plain GPT",
  "evaluation.left_out": "subjects that are not evaluated, nor built",
  "evaluation.prefix.candidates": "prefixes of prompted GPT, a file; '': ours",
  "evaluation.prefix.draws": "few-shot candidates of each number of shots",
  "evaluation.prefix.prompts": "validation prompts that choose; 0: no choice",
  "evaluation.prefix.shots": "numbers of demonstrations of few-shot candidates",
  "evaluation.prefix.tokens": "most that a few-shot candidate may have",
  "evaluation.prompts": "prompts of the split; fewer where it has fewer",
  "evaluation.reference": "the subject KL is measured from; '': baseline",
  "evaluation.reward_models.*": "the need whose reward model is compared",
  "evaluation.seed": "of the samples",
  "evaluation.split": "test or validation",
  "evaluation.subjects.*.best_of": "of so many responses the reward's best",
  "evaluation.subjects.*.mixture": "left out where there is none; '': never",
  "evaluation.subjects.*.prompted": "told first that an assistant answers",
  "evaluation.subjects.*.run": "the need whose policy it is; '': this run's",
  "evaluation.subjects.*.step": "of its run, one that it keeps; 0: the last",
  "evaluation.subjects.*.temperature": "-1: evaluation.temperature",
  "evaluation.suite": "what is evaluated: policies, reward or none",
  "evaluation.task_prompts": "prompts of each public-NLP-like task and probe",
  "evaluation.temperature": "of the samples",
  "experiment": "its file's name, and the start of the run's folder's",
  "folds.held_out": "the group of labelers that is left out; 0: each in turn",
  "folds.splits": "of the rankings that reward models are asked about",
  "freeze": "not trained: what this regular expression finds in role/path",
  "job": "what it does: dataset, train, rankings, candidates, label, mixture,"
  " select, leave_out, folds, epochs, overoptimization, evaluate, compare,"
  " join",
  "join.against": "parts whose subjects are held against each other's",
  "keep_epochs": "keep every epoch's weights, for select.py",
  "keep_every": "steps between checkpoints that stay; 0: none but the newest",
  "layout.rollout": "of the policy while it samples: train (as it is trained),"
  " decode (a copy that is whole but for mesh.tensor), auto: what fits",
  "layout.*": "what divides this role's matrices: both (fsdp, and tensor by"
  " heads and MLP), fsdp (both axes as fsdp), tensor alone, or copied",
  "log_every": "steps between rows of metrics.jsonl",
  "lora.alpha": "adapters count alpha / rank times",
  "lora.dropout": "of the adapters' input; there is none in RL",
  "lora.rank": "of the adapters (LoRA) that are trained alone; 0: no adapters",
  "lora.roles": "that have adapters, the others are trained whole; (): all",
  "lora.targets": "that have adapters: end of a layer's path (regex); '': all",
  "loss.*": "coefficient of this kind's token loss",
  "max_skipped": "non-finite updates in a row before it stops (exit 3)",
  "measure.data": "the folder that holds the sets; '': none",
  "measure.limit": "items of a set, drawn by the seed; 0: all",
  "measure.options": "of sets: SET.OPTION=VALUE, with commas",
  "measure.sets": "names of instruct_jax/sets, with commas; '': all",
  "measure.template": "around prompts: none, or own (each model's)",
  "mesh.data": "devices that hold copies of the parameters",
  "mesh.fsdp": "devices that parameters and rows are divided over",
  "mesh.tensor": "devices that heads and MLPs are divided over",
  "mixtures.cap": "most rows of a task; its share is min(rows, cap) of all",
  "mixtures.name": "which of them a stage makes",
  "mixtures.rows": "microworld: rows of each task, as far as it has so many",
  "mixtures.*": "files of its tasks: prompt and response, or T0's completion",
  "microbatches": "parts of a minibatch, whose gradients are added; scoring and"
  " validation read as few rows at a time",
  "model.attention_bias": "biases of query, key and value",
  "model.attention_cap": "attention's scores are bent below it; 0: are not",
  "model.context_length": "positions of a learned table; 0: as data needs",
  "model.dropout": "of the embedding and both residual branches",
  "model.dtype": "of activations, float32 or bfloat16",
  "model.embedding_scale": "token embeddings are multiplied by this",
  "model.head_size": "numbers a head",
  "model.heads": "query heads",
  "model.init": "kernels: gpt2 N(0, 0.02), fan_in N(0, 1 / sqrt(inputs))",
  "model.kv_heads": "key and value heads; heads, unless grouped",
  "model.layers": "blocks",
  "model.logit_cap": "logits are bent below it; 0: are not",
  "model.mlp": "gelu (tanh), gelu_exact (erf), swiglu or geglu",
  "model.mlp_bias": "biases of the MLP",
  "model.mlp_width": "hidden units of the MLP",
  "model.norm": "layernorm or rmsnorm",
  "model.norm_bias": "a bias in each layer norm",
  "model.norm_eps": "epsilon of the norms",
  "model.norm_offset": "is added to the norms' scales (Gemma: 1)",
  "model.output_bias": "a bias of the projection after the heads",
  "model.parallel_residual": "attention and MLP side by side (NeoX)",
  "model.positions": "learned or rotary",
  "model.post_norms": "norms after attention and MLP, too (Gemma 2)",
  "model.qk_norm": "RMS norm of each query and key head (Qwen 3)",
  "model.query_scalar": "scores are divided by its root; 0: head_size",
  "model.remat": "computed again going backward: none, dots (all of a layer"
  " but its matrix products), full, or offload (as dots; kept by the host)",
  "model.rotary_base": "of the rotary rates",
  "model.rotary_factor": "by how much the slow rates are divided",
  "model.rotary_fraction": "share of a head that turns",
  "model.rotary_high": "llama3: turns in the old context, more: fast",
  "model.rotary_local_base": "rotary_base of layers that slide; 0: the same",
  "model.rotary_low": "llama3: turns in the old context, fewer: slow",
  "model.rotary_old_length": "llama3: the old context",
  "model.rotary_scaling": "none, linear or llama3",
  "model.scan": "layers stacked and compiled once",
  "model.tied": "the unembedding is the token embedding",
  "model.vocab_size": "0: the tokenizer's",
  "model.width": "of the residual stream",
  "model.window": "attention reaches this far back; 0: everywhere",
  "model.window_pattern": "layers in turn: s slides, f does not; '': all slide",
  "needs.reward": "reward models that judge together, commas between; else as"
  " needs.*",
  "needs.*": "built first: FILE.py:VARIANT, a run's folder or hf:/path",
  "optimizer.*.b1": "Adam's (muon: of its Adam part)",
  "optimizer.*.b2": "Adam's (muon: of its Adam part)",
  "optimizer.*.clip_norm": "of this role's whole gradient; 0: no clip",
  "optimizer.*.eps": "Adam's",
  "optimizer.*.final_fraction": "of the peak rate, at the end",
  "optimizer.*.learning_rate": "its peak",
  "optimizer.*.name": "adam, adamw or muon",
  "optimizer.*.schedule": "constant or cosine",
  "optimizer.*.warmup_from": "of the peak rate, at the start",
  "optimizer.*.warmup_steps": "until the peak",
  "optimizer.*.weight_decay": "per unit of learning rate; 0 with adam",
  "overoptimization.batch": "responses sampled at once",
  "overoptimization.prompts": "prompts that the policies are compared on",
  "overoptimization.responses": "to each prompt, of which the best n are taken",
  "overoptimization.split": "test or validation",
  "pretrained": "hf:/path or a run, in the place of pretrain.py everywhere",
  "product": "the role that the next stages load",
  "profile": "steps that an XProf trace is written of, as 3-5; '': none",
  "rankings.batch": "responses sampled at once",
  "rankings.file": "people's ranks of to_rank.jsonl; {round} in it is a number",
  "rankings.labeler": "who ranks: world, reward, people or module:function",
  "rankings.model": "the reward model that ranks where labeler=reward",
  "rankings.round": "of iterating steps 2 and 3: what its comparisons are of",
  "rankings.chunk": "prompts that are saved together",
  "rankings.k_max": "most responses a prompt",
  "rankings.k_min": "fewest responses a prompt",
  "rankings.sources.*.policy": "the need that answers",
  "rankings.sources.*.prompted": "told first that an assistant answers",
  "rankings.sources.*.share": "of the responses",
  "rankings.sources.*.temperature": "that it answers at",
  "rankings.*": "prompts of this split that are ranked",
  "reward.function.path": "module:function of prompts and responses; '': off",
  "reward.length.free": "tokens that cost nothing; the rest: 0 to -1 at most",
  "reward.model.combine": "of several reward models: mean, or worst of them",
  "reward.words.words": "each that a response uses scores 1",
  "reward.*.weight": "of this term in the reward; 0: off",
  "reward_gain": "scale the reward to standard deviation 1 (2019)",
  "reward_model.*": "as model.*: the decoder of reward model and value network",
  "rl.aggregation": "loss over sequence, response, token or length (groups)",
  "rl.baseline": "of a group: leave_one_out, standardised or centred",
  "rl.clip": "of the ratio",
  "rl.discount": "gamma of GAE",
  "rl.gae_lambda": "lambda of GAE",
  "rl.group_size": "responses sampled to each prompt",
  "rl.inner_epochs": "passes over an iteration's episodes",
  "rl.kl_coef": "beta: of the KL in the reward (or in the loss: kl_in)",
  "rl.kl_horizon": "episodes over which kl_coef adapts",
  "rl.kl_in": "reward (k1) or loss (k3)",
  "rl.kl_target": "nats a response that kl_coef adapts to; 0: it is fixed",
  "rl.minibatches": "updates a pass",
  "rl.missing_end": "of a response without an end: fixed, penalty or none",
  "rl.missing_end_value": "its score (fixed), or what it loses (penalty)",
  "rl.ptx_coef": "gamma: of the pretraining loss; 0 is PPO without ptx",
  "rl.sampler": "who answers: start (best-of-n) or policy (expert iteration)",
  "rl.temperature": "of rollouts, and of every logprob in the update",
  "rl.value_clip": "of values around the old ones",
  "rl.value_coef": "of the value loss; a network of its own, so: a rate",
  "rl.whiten_advantages": "of all groups of an iteration together",
  "rl.whiten_rewards": "scale rewards to standard deviation 1",
  "samples": "validation prompts answered on the way",
  "samples_every": "steps between them; 0: never",
  "save_every": "steps between checkpoints",
  "seed": "of initial weights, order and samples; passes down to needs",
  "selection.batch": "responses sampled at once",
  "selection.prompts": "validation prompts that epochs are compared on",
  "selection.temperature": "of the samples",
  "show": "metrics on the progress line",
  "steps": "of training; 0 where epochs are given",
  "validate_batches": "batches of a validation",
  "validate_every": "steps between validations; 0: never",
  "validation.pretraining": "rows of text a validation batch; 0: none",
  "validation.*": "rows of this kind a validation batch",
  "variant": "a line of the experiment's VARIANTS",
  "wandb": "Weights & Biases: off, offline (beside the run) or online",
}
# {old key: the new one, or what to give in its place}
RENAMED: dict[str, str] = {
  "reward.kind": "reward.TERM.weight, as reward.words.weight=1",
  "rounds": "the end of the variant, as in"
  " --config=experiments/iterated.py:tiny-round3",
  "reward.words": "reward.words.words, with reward.words.weight",
}
_ROUND = (
  "the variant says which round it is, as"
  " --config=experiments/iterated.py:tiny-round3"
)
# Keys whose value is decided elsewhere, and where.
DECIDED = {
  "candidates.round": _ROUND,
  "rankings.round": _ROUND,
  "folds.held_out": "the variant says which group of labelers is left out, as"
  " --config=experiments/rm_folds.py:rm-tiny-fold1",
  "mixtures.name": "the variant says which, as"
  " --config=experiments/instruction_tuning.py:tiny-t0",
}
_NO_KL = "what this experiment learns from has no KL term"
_NO_GROUPS = "this experiment samples no groups of responses to a prompt"
# {what others call it: (the names here, what to say where there is none)}
ELSEWHERE = {
  "rl.n": (("rl.group_size",), _NO_GROUPS),
  "rl.num_generations": (("rl.group_size",), _NO_GROUPS),
  "rl.kl_coef": (("dpo.beta",), _NO_KL),
  "rl.beta": (("rl.kl_coef", "dpo.beta"), _NO_KL),
}


def flatten(tree: Mapping | ConfigDict, prefix: str = "") -> dict[str, Any]:
  """{'a.b': value} of nested config sections; an empty section has no key."""
  if isinstance(tree, ConfigDict):
    tree = tree.to_dict()
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[f"{prefix}{key}"] = value
  return flat


def entry(table: Mapping[str, Any], key: str) -> Any:
  """The line of a key in a table of patterns as MEANINGS; None without one."""
  if key in table:
    return table[key]
  if key.startswith("reward_model."):
    return entry(table, key.removeprefix("reward_"))
  for pattern, line in table.items():
    same_depth = pattern.count(".") == key.count(".")
    if same_depth and fnmatch.fnmatchcase(key, pattern):
      return line
  return None


def meaning(key: str) -> str:
  """What a key says; '' for a key that only somebody's own config has."""
  return entry(MEANINGS, key) or ""


def explained(flat: Mapping[str, Any]) -> list[str]:
  """'key = value  # meaning' of each, sorted by key."""
  pairs = [(f"{key} = {value!r}", meaning(key)) for key, value in flat.items()]
  width = min(44, max(len(line) for line, _ in pairs))
  return sorted(
    f"{line:<{width}}  # {text}" if text else line for line, text in pairs
  )


def check(
  given: Iterable[str],
  known: Mapping[str, Any],
  renamed: Mapping[str, str] | None = None,
) -> None:
  """UserError for a key that is not in `known`; a section is set key by key.

  An old key is answered with the new one, by `renamed` (default: RENAMED).
  """
  renamed = RENAMED if renamed is None else renamed
  for key in given:
    if key in known and key in DECIDED:
      raise errors.UserError(f"config.{key} cannot be set: {DECIDED[key]}")
    if key in known:
      continue
    if key in renamed:
      raise errors.UserError(
        f"config key '{key}' has another name now: {renamed[key]}"
      )
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
      raise errors.UserError(
        f"config.{key} is a section: give its keys one by one, as"
        f" --config.{inside[0]}=..., or write an experiment of your own"
      )
    if key in ELSEWHERE:
      names, what = ELSEWHERE[key]
      here = [name for name in names if name in known]
      hint = f"give config.{here[0]}" if here else what
      raise errors.UserError(f"unknown config key '{key}': {hint}")
    raise errors.unknown("config key", key, known, show=5)

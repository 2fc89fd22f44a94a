"""What the experiments share: every key, its default, and what it means.

An experiment is `DEFAULTS`, which are the paper's wherever it speaks, and a
table `VARIANTS` of what each variant changes, by dotted key. The variants:
'tiny' (the laptop default, on the microworld), 'test' (the same in seconds,
learns nothing), 'files' (your own data), and the paper's '1.3b', '6b', '175b',
whose numbers all come from `instruct_jax.paper`. Every config is complete and
locked. What a key means stands in `instruct_jax.base.keys`.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.models import sizes

PAPER = paper.SIZES
SMALL = ("tiny", "test", "files")
Changes = Mapping[str, Any]  # {dotted key: value}

DATA = {  # the microworld's
  "source": "microworld",
  "world_seed": 7,
  "template": "{prompt} \n",
  "start": "reference",
  "prompt_length": 32,
  "response_length": 16,
  "row_length": 64,
  "k_max": paper.K_MAX,
  "vocab_size": 1000,
  "tokenizer": "word",
  "tokenizer_sample": 32_000_000,  # 0.6 GB of memory while it is trained
  "pretraining": "",
  "demonstrations": "",
  "rankings": "",
  "prompts": "",
  "validation_fraction": 0.05,
  "test_fraction": 0.1,
  "packing": False,
  "loss_on": "all",
  "prefix": paper.LONG_PREFIX,
  "per_user": paper.MAX_PROMPTS_PER_USER,
  "remove_pii": True,
  "quality": 0.75,
  "sizes": {  # rows of the training, validation and test splits
    "pretraining": (76_000, 500, 500),
    "demonstrations": (256, 256, 256),
    "prompts": (12_000, 1024, 1024),
  },
}
REWARD = {
  "model": {"weight": 1.0, "combine": "mean"},
  "words": {"weight": 0.0, "words": ()},
  "length": {"weight": 0.0, "free": 0},
  "function": {"weight": 1.0, "path": ""},
}
_FILES = {
  "source": "files",
  "world_seed": 0,
  "template": "Human: {prompt}\n\nAssistant:",
  "start": "reference",
  "prompt_length": 128,
  "response_length": 128,
  "row_length": 256,
  "k_max": 0,  # as the rankings have
  "vocab_size": 2048,
  "tokenizer": "unigram",
  "validation_fraction": 0.1,
  "test_fraction": 0.05,
  "quality": 1.0,
  "sizes": {  # files are taken whole
    "pretraining": (0, 0, 0),
    "demonstrations": (0, 0, 0),
    "prompts": (0, 0, 0),
  },
}
_LONG_FILES = _FILES | {
  "prompt_length": paper.PROMPT_LENGTH,
  "response_length": paper.RESPONSE_LENGTH,
  "row_length": paper.CONTEXT_LENGTH,
  "vocab_size": paper.VOCAB_SIZE,
  "tokenizer": "bpe",
}
DATA_CHANGES = {
  "tiny": {},
  "test": {
    "sizes": {
      "pretraining": (600, 60, 60),
      "demonstrations": (64, 32, 32),
      "prompts": (200, 48, 48),
    },
  },
  "files": _FILES,
} | dict.fromkeys(PAPER, _LONG_FILES)

# How the prefix of *prompted GPT* is chosen.
PREFIX = {
  "candidates": "",  # the world's
  "prompts": 128,
  "shots": (1, 2),
  "draws": 2,
  "tokens": 64,
}
PREFIX_CHANGES = {
  "test": {"prompts": 8, "shots": (1,), "draws": 1},
  "files": {"prompts": 32, "tokens": 256},
} | {
  size: {"prompts": 256, "shots": (2, 4), "draws": 4, "tokens": 512}
  for size in PAPER
}

# Deltas that several experiments' variants share.
POLICIES = {
  "evaluation.suite": "policies",
  "evaluation.prompts": 1024,
}
TEST_EVALUATION = {
  "evaluation.prompts": 16,
  "evaluation.batch": 16,
  "evaluation.task_prompts": 16,
  "evaluation.judged_prompts": 16,
}
FILES_EVALUATION = {"evaluation.prompts": 64, "evaluation.batch": 32}


# Meshes of the paper's sizes, by the devices that a variant names, as
# `ppo_ptx.py:1.3b-on-v5e-4x4`, and by the algorithm that trains ('': none).
# `instruct_jax.plan` says what each takes. Rows are divided over no more
# devices than a batch has: the 175B learns from 8 demonstrations a step.
_OF_16 = {"mesh.fsdp": 16}
_OF_64 = {"mesh.fsdp": 32, "mesh.tensor": 2}
_OF_256 = {"mesh.fsdp": 64, "mesh.tensor": 4}
PLACES: Mapping[str, Mapping[str, Changes]] = {
  "v5e-4x4": {
    "ppo": _OF_16 | {"microbatches": 4},
    "rm": _OF_16 | {"microbatches": 4},
    "sft": _OF_16 | {"microbatches": 2},
    "": _OF_16,
  },
  "8x80gb": {
    "ppo": {"mesh.fsdp": 8, "microbatches": 8},
    "rm": {"mesh.fsdp": 8, "microbatches": 8},
    "sft": {"mesh.fsdp": 8, "microbatches": 4},
    "": {"mesh.fsdp": 8},
  },
  "v5e-8x8": {
    "ppo": _OF_64 | {"microbatches": 2},
    "rm": _OF_64 | {"microbatches": 2},
    "sft": _OF_64,
    "": _OF_64,
  },
  "v5p-4x8x8": {
    "ppo": _OF_256,
    "rm": _OF_256,
    "sft": {"mesh.fsdp": 8, "mesh.tensor": 32},
    "": _OF_256,
  },
}


def base(
  experiment: str,
  variant: str,
  job: str,
  defaults: Changes,
  variants: Mapping[str, Changes],
) -> ConfigDict:
  """The locked config of a job that does not train, as `training` makes it."""
  config = _base(experiment, variant, job, variants)
  return _resolved(config, defaults, variants, variant)


def training(
  experiment: str,
  variant: str,
  algorithm: str,
  defaults: Changes,
  variants: Mapping[str, Changes],
) -> ConfigDict:
  """The locked config of a training job: what is here, then what changes.

  `defaults` and, after them, the variant's own changes are set over what every
  experiment has. A need without a variant ('sft.py') is this variant's.
  Raises UserError for a variant that `variants` does not have.
  """
  config = _base(experiment, variant, "train", variants)
  config.update(
    {
      "algorithm": algorithm,
      "product": "policy",
      "batch": {},
      "epoch_of": "",
      "epochs": 0,
      "steps": 0,
      "microbatches": 1,
      "loss": {},
      "optimizer": {},
      "ema": {},
      "lora": {
        "rank": 0,
        "alpha": 16.0,
        "targets": "",
        "dropout": 0.0,
        "roles": (),
      },
      "freeze": "",
      "layout": {
        **dict.fromkeys(("policy", "reference", "value", "reward"), "both"),
        "rollout": "auto",
      },
      "max_skipped": 5,
      "keep_epochs": False,
      "keep_every": 0,
      "save_every": 100,
      "log_every": 10,
      "show": (),
      "profile": "",
      "wandb": "off",
      "validation": {},
      "validate_every": 0,
      "validate_batches": 8,
      "samples": 8,
      "samples_every": 0,
    }
  )
  return _resolved(config, defaults, variants, variant)


def split(variant: str) -> tuple[str, str]:
  """('1.3b', 'v5e-4x4') of '1.3b-on-v5e-4x4'; the place is '' of '1.3b'.

  Raises UserError for a place that is not in PLACES, and of a small variant.
  """
  size, at, place = variant.partition("-on-")
  if at and place not in PLACES:
    raise errors.unknown(f"place of variant {size}", place, PLACES)
  if at and size not in PAPER:
    raise errors.UserError(
      f"variant '{variant}': only {', '.join(PAPER)} are placed by name; of"
      " others give --config.mesh.fsdp=N"
    )
  return size, place


def _base(experiment, variant, job, variants):
  """What every experiment has."""
  named, (variant, _) = variant, split(variant)
  if variant not in variants:
    sizes_there = [size for size in PAPER if size in variants]
    placed = [f"{size}-on-{x}" for size in sizes_there for x in PLACES]
    raise errors.unknown(
      f"variant of {experiment}.py", variant, [*variants, *placed]
    )
  return ConfigDict(
    {
      "experiment": experiment,
      "variant": named,
      "job": job,
      "seed": 0,
      "needs": {},
      "pretrained": "",
      "data": data(variant),
      "model": sizes.section(variant),
      "reward_model": sizes.section(paper.RM_SIZES.get(variant, variant)),
      "reward": REWARD,
      "mesh": {"data": 1, "fsdp": 1, "tensor": 1},
      "evaluation": {
        "suite": "none",
        "extra": "",  # your own evaluation: my_package.my_module:my_function
        "always": False,
        "split": "test",
        "seed": 0,
        "prompts": 0,
        "task_prompts": 128,
        "judged_prompts": 256,
        "batch": 128,
        "temperature": 1.0,
        "prefix": PREFIX | PREFIX_CHANGES.get(variant, {}),
        "baseline": "",
        "reference": "",
        "subjects": {},
        "left_out": (),
        "reward_models": {},
      },
    }
  )


def _resolved(config, defaults, variants, variant):
  size, place = split(variant)
  of_place = {}
  if place:
    meshes = PLACES[place]
    trains = "algorithm" in config and config.algorithm in meshes
    of_place = meshes[config.algorithm if trains else ""]
  for changes in (defaults, variants[size], of_place):
    for key, value in changes.items():
      *path, name = key.split(".")
      section = config
      for part in path:
        section = section[part]
      section[name] = value
  for need, reference in config.needs.items():
    # Data are the same wherever they are used.
    same = size if reference == "dataset.py" else variant
    if reference.endswith(".py"):
      config.needs[need] = f"{reference}:{same}"
    elif "{variant}" in reference:
      config.needs[need] = reference.replace("{variant}", size)
  return config.lock()


def data(variant: str) -> ConfigDict:
  """Where text, demonstrations, prompts and rankings come from."""
  return ConfigDict(DATA | DATA_CHANGES[variant])


def optimizer(
  name: str, learning_rate: float, **changes: Any
) -> dict[str, Any]:
  """One role's optimizer: the paper's Adam where `changes` say nothing."""
  section = {
    "name": name,
    "learning_rate": learning_rate,
    "b1": paper.ADAM_B1,
    "b2": paper.ADAM_B2,
    "eps": paper.ADAM_EPS,
    "weight_decay": paper.WEIGHT_DECAY,
    "clip_norm": paper.CLIP_NORM,
    "schedule": "cosine",
    "warmup_steps": 0,
    "warmup_from": 0.1,
    "final_fraction": 0.1,
  }
  return section | changes


def fine_tuning(
  numbers: paper.FineTuning, role: str, kind: str
) -> dict[str, Any]:
  """The changes that make a stage one of the paper's (C.1 to C.3)."""
  return {
    f"batch.{kind}": numbers.batch,
    f"validation.{kind}": numbers.batch,
    "epochs": numbers.epochs,
    f"optimizer.{role}": optimizer(
      "adam",
      numbers.learning_rate,
      schedule=numbers.schedule,
      warmup_steps=numbers.warmup_steps,
      final_fraction=numbers.final_fraction,
    ),
  }


def subject(
  run: str = "",
  *,
  prompted: bool = False,
  best_of: int = 1,
  temperature: float = -1.0,
  mixture: str = "",
  step: int = 0,
) -> dict[str, Any]:
  """A policy to evaluate: a need by name ('': this run), plain or prompted, or
  the reward's best of so many responses; at a temperature of its own, or below
  0 at `evaluation.temperature`. It is left out where there is no such mixture
  of tasks that it was trained on. A `step` above 0 is one that its run keeps
  on the way (`keep_every`)."""
  return {
    "run": run,
    "prompted": prompted,
    "best_of": best_of,
    "temperature": temperature,
    "mixture": mixture,
    "step": step,
  }


# Fine-tuned on tasks in many templates (experiments/instruction_tuning.py).
MIXTURES = ("flan", "t0")
TUNED = {name: subject(name, mixture=name) for name in MIXTURES}
TUNED_NEEDS = {
  name: f"instruction_tuning.py:select-{{variant}}-{name}" for name in MIXTURES
}
MIXED = {
  "name": "",
  **dict.fromkeys(MIXTURES, ""),  # files; '': the world's, if it has one
  "cap": paper.MIXTURE_CAP,
  "rows": 600,
}
GPT = {"gpt": subject("gpt"), "prompted_gpt": subject("gpt", prompted=True)}

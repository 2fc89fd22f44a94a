"""Sections that the experiments share. Every config is complete and locked.

Variants: 'tiny' (the laptop default, on the microworld), 'test' (the same in
seconds, learns nothing), 'files' (your own data), and the paper's '1.3b',
'6b', '175b', whose numbers all come from `instruct_jax.paper`.
"""

from typing import Any

from ml_collections import ConfigDict

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.models import sizes

PAPER = paper.SIZES
SMALL = ("tiny", "test", "files")


def known(variant: str, variants: tuple[str, ...], experiment: str) -> str:
  """`variant`, if the experiment has it; UserError with a suggestion if not."""
  if variant not in variants:
    raise errors.unknown(f"variant of {experiment}.py", variant, variants)
  return variant


def model(variant: str, *, dropout: float = 0.0) -> ConfigDict:
  """The decoder: every field of `models.decoder.DecoderConfig` but the
  vocabulary's size, which is the tokenizer's."""
  section = sizes.section(variant)
  section.dropout = dropout
  return section


def data(variant: str) -> ConfigDict:
  """Where text, demonstrations, prompts and rankings come from."""
  if variant == "files" or variant in PAPER:
    return _files(variant)
  section = {
    "source": "microworld",
    "world_seed": 7,
    "template": "{prompt} \n",
    "prompt_length": 32,
    "response_length": 16,
    "row_length": 64,
    "k_max": paper.K_MAX,
    "vocab_size": 1000,
    "tokenizer": "word",
    "pretraining": "",
    "demonstrations": "",
    "rankings": "",
    "prompts": "",
    "validation_fraction": 0.05,
    "test_fraction": 0.1,
    "packing": False,
    "prefix": 128,
    "per_user": 200,
    "remove_pii": True,
    "quality": 0.75,  # share of demonstrations that are ideal
    "sizes": {  # rows of the training, validation and test splits
      "pretraining": (64_000, 500, 500),
      "demonstrations": (256, 256, 256),
      "prompts": (12_000, 1024, 1024),
    },
  }
  if variant == "test":
    section["sizes"] = {
      "pretraining": (600, 60, 60),
      "demonstrations": (64, 32, 32),
      "prompts": (200, 48, 48),
    }
  return ConfigDict(section)


def _files(variant: str) -> ConfigDict:
  section = {
    "source": "files",
    "world_seed": 0,
    "template": "Human: {prompt}\n\nAssistant:",
    "prompt_length": 128,
    "response_length": 128,
    "row_length": 256,
    "k_max": 4,  # rankings padded to this many
    "vocab_size": 2048,
    "tokenizer": "unigram",
    "pretraining": "",
    "demonstrations": "",
    "rankings": "",
    "prompts": "",
    "validation_fraction": 0.1,
    "test_fraction": 0.05,
    "packing": False,  # several texts or demonstrations a row, kept apart
    "prefix": 128,  # prompts that share this many characters are duplicates
    "per_user": 200,  # prompts kept of one user
    "remove_pii": True,  # from training prompts
    "quality": 1.0,
    "sizes": {  # of the microworld; files are taken whole
      "pretraining": (0, 0, 0),
      "demonstrations": (0, 0, 0),
      "prompts": (0, 0, 0),
    },
  }
  if variant in PAPER:
    section |= {
      "prompt_length": paper.PROMPT_LENGTH,
      "response_length": paper.RESPONSE_LENGTH,
      "row_length": paper.CONTEXT_LENGTH,
      "k_max": paper.K_MAX,
      "vocab_size": paper.VOCAB_SIZE,
      "tokenizer": "bpe",
    }
  return ConfigDict(section)


def optimizer(name: str, learning_rate: float, **changes: Any) -> ConfigDict:
  """One role's optimizer: the paper's Adam where `changes` say nothing."""
  section = ConfigDict(
    {
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
  )
  section.update(changes)
  return section


def base(experiment: str, variant: str, job: str) -> ConfigDict:
  """What every experiment has."""
  return ConfigDict(
    {
      "experiment": experiment,
      "variant": variant,
      "job": job,
      "seed": 0,
      "needs": {},
      "pretrained": "",  # hf:/path or a run, in the place of pretrain.py
      "data": data(variant),
      "model": model(variant),
      "reward_model": model(
        paper.RM_SIZES[variant] if variant in PAPER else variant
      ),
      "reward": {"kind": "model", "words": ()},  # or a rule: see rewards.py
      "mesh": {"data": 1, "fsdp": 1, "tensor": 1},
      "evaluation": {
        "suite": "none",
        "always": False,
        "split": "test",
        "seed": 0,
        "prompts": 0,
        "task_prompts": 128,  # of each public-NLP-like task and probe
        "batch": 128,
        "temperature": 1.0,
        "baseline": "",
        "subjects": {},
      },
    }
  )


def training(experiment: str, variant: str, algorithm: str) -> ConfigDict:
  """`base` with what the train loop reads; experiments fill in the rest."""
  config = base(experiment, variant, "train")
  config.update(
    {
      "algorithm": algorithm,
      "product": "policy",  # the role that the next stages load
      "batch": {},  # rows a step, by kind of data
      "epoch_of": "",  # the kind whose rows, seen once, make an epoch
      "epochs": 0,
      "steps": 0,
      "microbatches": 1,
      "loss": {},  # coefficients of sft's parts
      "optimizer": {},  # by role
      "ema": {},  # decay an update, by role
      "max_skipped": 5,
      "keep_epochs": False,
      "save_every": 100,
      "log_every": 10,
      "show": (),  # metrics on the progress line
      "time_phases": False,
      "validation": {},  # rows a batch, by kind
      "validate_every": 0,
      "validate_batches": 8,
      "samples": 8,
      "samples_every": 0,
    }
  )
  return config


def subject(run: str = "", *, prompted: bool = False) -> dict[str, Any]:
  """A policy to evaluate: a need by name ('': this run), plain or prompted."""
  return {"run": run, "prompted": prompted}

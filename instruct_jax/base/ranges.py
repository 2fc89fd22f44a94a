"""What a value may be: of every key of a config, and of the commands' flags.

RANGES has a row for each key, by the patterns of `keys.MEANINGS`; a test holds
that every key of every experiment is there. A row says what one value may be
by itself. What values must be to each other is said where they are used (the
`check` of a module), and names that a registry knows are its to refuse.

Numbers are compared as the float32 that they become: a decay of 0.99999999 is
1, and an epsilon of 1e-50 is 0. No number may be NaN or infinite.
"""

import dataclasses
import math
import numbers
import os
import re
import struct
from collections.abc import Mapping
from typing import Any, Protocol

from instruct_jax.base import errors, keys

_NOWHERE = "hf:"  # the prefix of a checkpoint's path, and no path
MOST = 2**31 - 1  # what an int32 counts
LONGEST = 2**20  # tokens; attention here is dense, its scores grow as squares


class Range(Protocol):
  """A set of values."""

  @property
  def right(self) -> str:
    """What belongs to it, in words that go on from 'must be'."""

  def holds(self, value: Any) -> bool:
    """Whether a value belongs to it, type included."""


@dataclasses.dataclass(frozen=True)
class Whole:
  """Whole numbers, both ends included."""

  least: int
  most: int = MOST
  or_zero: bool = False

  @property
  def right(self) -> str:
    """As `Range`."""
    text = f"a whole number from {self.least} to {self.most}"
    return f"0, or {text}" if self.or_zero else text

  def holds(self, value: Any) -> bool:
    """As `Range`; True and False are no numbers."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
      return False
    if self.or_zero and value == 0:
      return True
    return self.least <= int(value) <= self.most


@dataclasses.dataclass(frozen=True)
class Real:
  """Numbers between two ends, which belong to it unless they are `open`."""

  least: float
  most: float
  open: str = ""  # "least", "most" or "both"
  or_zero: bool = False

  @property
  def right(self) -> str:
    """As `Range`."""
    low = "above" if self.open in ("least", "both") else "at least"
    high = "below" if self.open in ("most", "both") else "at most"
    text = f"{low} {self.least:g} and {high} {self.most:g}"
    return f"0, or {text}" if self.or_zero else text

  def holds(self, value: Any) -> bool:
    """As `Range`; a whole number is a number, too."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
      return False
    if self.or_zero and value == 0:
      return True
    x, least, most = map(_float32, (value, self.least, self.most))
    above = x > least if self.open in ("least", "both") else x >= least
    below = x < most if self.open in ("most", "both") else x <= most
    return math.isfinite(x) and above and below


@dataclasses.dataclass(frozen=True)
class OneOf:
  """A few names."""

  names: tuple[str, ...]

  @property
  def right(self) -> str:
    """As `Range`."""
    return f"one of {', '.join(self.names)}"

  def holds(self, value: Any) -> bool:
    """As `Range`."""
    return value in self.names


@dataclasses.dataclass(frozen=True)
class Switch:
  """True or False."""

  right: str = "True or False"

  def holds(self, value: Any) -> bool:
    """As `Range`."""
    return isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Text:
  """A name, a path or a list of them: a line that can be seen."""

  or_empty: bool = False
  lines: bool = False  # line breaks and tabs belong to it
  file: bool = False  # a part of a file's name: no folder, nothing hidden

  @property
  def right(self) -> str:
    """As `Range`."""
    text = "text" if self.lines else "text in one line"
    text = f"{text} without control characters"
    if self.file:
      text = "part of a file's name: letters, digits, '_', '-' and '.'"
    return f"{text}, or empty" if self.or_empty else f"{text}, not empty"

  def holds(self, value: Any) -> bool:
    """As `Range`; a path object is text."""
    if not isinstance(value, str | os.PathLike):
      return False
    text = os.fspath(value)
    if not isinstance(text, str) or text.strip() == _NOWHERE:
      return False
    if self.file:
      return re.fullmatch(r"\w[\w.-]*", text) is not None
    allowed = "\n\t" if self.lines else ""
    if any(c < " " and c not in allowed for c in text):
      return False
    return bool(text.strip()) or (self.or_empty and not text)


@dataclasses.dataclass(frozen=True)
class Each:
  """Several values of one range; exactly `count` of them, if it says so."""

  one: Range
  count: int | None = None

  @property
  def right(self) -> str:
    """As `Range`."""
    many = "a tuple" if self.count is None else f"{self.count} values"
    return f"{many}, each of them {self.one.right}"

  def holds(self, value: Any) -> bool:
    """As `Range`; a tuple or a list."""
    if not isinstance(value, tuple | list):
      return False
    fits = self.count is None or len(value) == self.count
    return fits and all(map(self.one.holds, value))


@dataclasses.dataclass(frozen=True)
class Or:
  """A range, and a number outside of it that means something else."""

  other: float
  one: Range

  @property
  def right(self) -> str:
    """As `Range`."""
    return f"{self.other:g}, or {self.one.right}"

  def holds(self, value: Any) -> bool:
    """As `Range`."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return (is_number and value == self.other) or self.one.holds(value)


def _float32(value: Any) -> float:
  try:
    return struct.unpack("f", struct.pack("f", value))[0]
  except (OverflowError, struct.error):  # beyond a float32, or a float
    return math.inf if value > 0 else -math.inf


COUNT, SOME = Whole(1), Whole(0)
LENGTH = Whole(1, LONGEST)
SIZE = Whole(1, LONGEST)  # of an axis of a model
SEED = Whole(0, 2**32 - 1)
SHARE = Real(0, 1)
DECAY = Real(0, 1, open="most")
WEIGHT = Real(0, 1e6)
EPSILON = Real(1e-20, 1)
# Below, logits that are divided by it overflow; above, all tokens are alike.
HOT = Real(1e-4, 1e4)
TEMPERATURE = Real(1e-4, 1e4, or_zero=True)  # 0: the likeliest token
NAME, MAYBE = Text(), Text(or_empty=True)
SWITCH = Switch()

RANGES: dict[str, Range] = {
  "algorithm": NAME,
  "batch.pretraining": SOME,
  "batch.*": COUNT,
  "candidates.batch": COUNT,
  "candidates.chunk": COUNT,
  "candidates.k_max": Whole(2, 1000),
  "candidates.k_min": Whole(2, 1000),
  "candidates.round": Whole(2, 1000),
  "candidates.sources.*.policy": NAME,
  "candidates.sources.*.prompted": SWITCH,
  "candidates.sources.*.share": SHARE,
  "candidates.sources.*.temperature": TEMPERATURE,
  "candidates.*": SOME,
  "data.demonstrations": MAYBE,
  "data.k_max": Whole(2, 1000, or_zero=True),  # 0: as the rankings have
  "data.loss_on": OneOf(("all", "last")),
  "data.packing": SWITCH,
  "data.per_user": COUNT,
  "data.prefix": COUNT,
  "data.pretraining": MAYBE,
  "data.prompt_length": LENGTH,
  "data.prompts": MAYBE,
  "data.quality": SHARE,
  "data.rankings": MAYBE,
  "data.remove_pii": SWITCH,
  "data.response_length": LENGTH,
  "data.row_length": Whole(2, LONGEST),
  "data.sizes.*": Each(SOME, 3),
  "data.source": NAME,
  "data.start": NAME,
  "data.template": Text(lines=True),
  "data.test_fraction": DECAY,
  "data.tokenizer": NAME,
  "data.tokenizer_sample": Whole(1, 10**12),
  "data.validation_fraction": DECAY,
  "data.vocab_size": Whole(4, 10**7),
  "data.world_seed": SEED,
  "dpo.beta": Real(0, 1e6, open="least"),
  "dpo.label_smoothing": Real(0, 0.5),
  "dpo.loss": NAME,
  "dpo.per_token": SWITCH,
  "dpo.ptx_coef": WEIGHT,
  "ema.*": DECAY,
  "epoch_of": NAME,
  "epochs": SOME,
  "evaluation.always": SWITCH,
  "evaluation.baseline": MAYBE,
  "evaluation.batch": COUNT,
  "evaluation.extra": MAYBE,
  "evaluation.left_out": Each(NAME),
  "evaluation.prefix.candidates": MAYBE,
  "evaluation.prefix.draws": Whole(1, 1000),
  "evaluation.prefix.prompts": SOME,
  "evaluation.prefix.shots": Each(Whole(1, 1000)),
  "evaluation.prefix.tokens": LENGTH,
  "evaluation.prompts": SOME,
  "evaluation.reference": MAYBE,
  "evaluation.reward_models.*": NAME,
  "evaluation.seed": SEED,
  "evaluation.split": OneOf(("test", "validation")),
  "evaluation.subjects.*.best_of": Whole(1, 10_000),
  "evaluation.subjects.*.mixture": MAYBE,
  "evaluation.subjects.*.prompted": SWITCH,
  "evaluation.subjects.*.run": MAYBE,
  "evaluation.subjects.*.step": SOME,
  "evaluation.subjects.*.temperature": Or(-1, TEMPERATURE),
  "evaluation.suite": NAME,
  "evaluation.task_prompts": COUNT,
  "evaluation.judged_prompts": COUNT,
  "evaluation.temperature": TEMPERATURE,
  "experiment": Text(file=True),
  "folds.held_out": Whole(0, 1000),
  "folds.splits": Each(OneOf(("test", "validation"))),
  "freeze": MAYBE,
  "job": NAME,
  "join.against": Each(NAME),
  "keep_epochs": SWITCH,
  "keep_every": SOME,
  "layout.rollout": OneOf(("auto", "train", "decode")),
  "layout.*": OneOf(("both", "fsdp", "tensor", "copied")),
  "log_every": COUNT,
  "lora.alpha": Real(0, 1e6, open="least"),
  "lora.dropout": DECAY,
  "lora.rank": SOME,
  "lora.roles": Each(NAME),
  "lora.targets": MAYBE,
  "loss.*": WEIGHT,
  "max_skipped": COUNT,
  "measure.data": MAYBE,
  "measure.limit": SOME,
  "measure.options": MAYBE,
  "measure.sets": MAYBE,
  "measure.template": NAME,
  "mesh.data": COUNT,
  "mesh.fsdp": COUNT,
  "mesh.tensor": COUNT,
  "microbatches": COUNT,
  "mixtures.cap": COUNT,
  "mixtures.name": MAYBE,
  "mixtures.rows": COUNT,
  "mixtures.*": MAYBE,
  "model.attention_bias": SWITCH,
  "model.attention_cap": Real(0, 1e6),
  "model.context_length": Whole(0, LONGEST),
  "model.dropout": DECAY,
  "model.dtype": NAME,
  "model.embedding_scale": Real(0, 1e6, open="least"),
  "model.head_size": SIZE,
  "model.heads": SIZE,
  "model.init": NAME,
  "model.kv_heads": SIZE,
  "model.layers": Whole(1, 1000),
  "model.logit_cap": Real(0, 1e6),
  "model.mlp": NAME,
  "model.mlp_bias": SWITCH,
  "model.mlp_width": SIZE,
  "model.norm": NAME,
  "model.norm_bias": SWITCH,
  "model.norm_eps": EPSILON,
  "model.norm_offset": Real(0, 1),
  "model.output_bias": SWITCH,
  "model.parallel_residual": SWITCH,
  "model.positions": NAME,
  "model.post_norms": SWITCH,
  "model.qk_norm": SWITCH,
  "model.query_scalar": Real(0, 1e6),
  "model.remat": NAME,
  "model.rotary_base": Real(1, 1e12),
  "model.rotary_factor": Real(0, 1e6, open="least"),
  "model.rotary_fraction": Real(0, 1, open="least"),
  "model.rotary_high": Real(0, 1e6, open="least"),
  "model.rotary_local_base": Real(0, 1e12),
  "model.rotary_low": Real(0, 1e6, open="least"),
  "model.rotary_old_length": LENGTH,
  "model.rotary_scaling": NAME,
  "model.scan": SWITCH,
  "model.tied": SWITCH,
  "model.vocab_size": Whole(0, 10**7),
  "model.width": SIZE,
  "model.window": SOME,
  "model.window_pattern": MAYBE,
  "needs.reward": MAYBE,
  "needs.*": MAYBE,
  "optimizer.*.b1": DECAY,
  "optimizer.*.b2": DECAY,
  "optimizer.*.clip_norm": Real(0, 1e9),
  "optimizer.*.eps": EPSILON,
  "optimizer.*.final_fraction": SHARE,
  "optimizer.*.learning_rate": Real(0, 10),
  "optimizer.*.name": NAME,
  "optimizer.*.schedule": NAME,
  "optimizer.*.warmup_from": SHARE,
  "optimizer.*.warmup_steps": SOME,
  "optimizer.*.weight_decay": Real(0, 10),
  "overoptimization.batch": COUNT,
  "overoptimization.prompts": COUNT,
  "overoptimization.responses": Whole(1, 10_000),
  "overoptimization.split": OneOf(("test", "validation")),
  "pretrained": MAYBE,
  "product": NAME,
  "profile": MAYBE,
  "rankings.batch": COUNT,
  "rankings.file": MAYBE,
  "rankings.labeler": NAME,
  "rankings.model": MAYBE,
  "rankings.round": Whole(2, 1000),
  "rankings.chunk": COUNT,
  "rankings.k_max": Whole(2, 1000),
  "rankings.k_min": Whole(2, 1000),
  "rankings.sources.*.policy": NAME,
  "rankings.sources.*.prompted": SWITCH,
  "rankings.sources.*.share": SHARE,
  "rankings.sources.*.temperature": TEMPERATURE,
  "rankings.*": SOME,
  "reward.function.path": MAYBE,
  "reward.length.free": SOME,
  "reward.model.combine": NAME,
  "reward.words.words": Each(NAME),
  "reward.*.weight": Real(-1e6, 1e6),
  "reward_gain": SWITCH,
  "rl.aggregation": NAME,
  "rl.baseline": NAME,
  "rl.clip": Real(0, 1, open="least"),
  "rl.discount": SHARE,
  "rl.gae_lambda": SHARE,
  "rl.group_size": Whole(1, 10_000),
  "rl.inner_epochs": COUNT,
  "rl.kl_coef": WEIGHT,
  "rl.kl_horizon": Real(0, 1e9, open="least"),
  "rl.kl_in": NAME,
  "rl.kl_target": WEIGHT,
  "rl.minibatches": COUNT,
  "rl.missing_end": NAME,
  "rl.missing_end_value": Real(-1e6, 1e6),
  "rl.ptx_coef": WEIGHT,
  "rl.sampler": NAME,
  "rl.temperature": HOT,
  "rl.value_clip": Real(0, 1e6, open="least"),
  "rl.value_coef": WEIGHT,
  "rl.whiten_advantages": SWITCH,
  "rl.whiten_rewards": SWITCH,
  "samples": SOME,
  "samples_every": SOME,
  "save_every": COUNT,
  "seed": SEED,
  "selection.batch": COUNT,
  "selection.prompts": COUNT,
  "selection.temperature": TEMPERATURE,
  "show": Each(NAME),
  "steps": SOME,
  "validate_batches": COUNT,
  "validate_every": SOME,
  "validation.pretraining": SOME,
  "validation.*": COUNT,
  "variant": Text(file=True),
  "wandb": OneOf(("off", "offline", "online")),
}
SAMPLING: dict[str, Range] = {  # of `sample`, and of what a chat is told
  "temperature": TEMPERATURE,
  "top_k": SOME,
  "top_p": Real(0, 1, open="least"),
  "max_tokens": SOME,  # the model says how many it has room for
  "n": Whole(1, 10_000),  # they are held, and shown, together
  "best_of": Whole(1, 10_000),
  "seed": SEED,
}
# Flags of all commands, by name; those that are given are checked, each value
# of those that are repeated. A prompt is free text, and `--config` a file.
FLAGS: dict[str, Range] = SAMPLING | {
  "alone": Whole(1, 10**6),
  "base": NAME,
  "batch": COUNT,
  "build": MAYBE,
  "by": MAYBE,
  "code": NAME,
  "column": NAME,
  "combine": NAME,
  "coordinator": NAME,
  "demonstrations": NAME,
  "data": MAYBE,
  "dir": NAME,
  "dtype": MAYBE,
  "experiment": NAME,
  "file": NAME,
  "folder": NAME,
  "format": NAME,
  "gigabytes": Real(1e-3, 1e3),
  "grace": Real(0, 1e6),
  "group": NAME,
  "host": NAME,
  "inputs": NAME,
  "keep_old": SOME,
  "kind": NAME,
  "labelers": Whole(1, 1000),
  "lang": NAME,
  "limit": SOME,
  "most_mb": Whole(1, 10**6),
  "name": NAME,
  "no_answer": MAYBE,
  "once": NAME,
  "only": MAYBE,
  "out": NAME,
  "parent": NAME,
  "peers": NAME,
  "per_user": COUNT,
  "port": Whole(0, 65535),
  "prefix": COUNT,
  "pretraining": NAME,
  "process": SOME,
  "processes": COUNT,
  "profile": MAYBE,
  "prompt_length": Whole(0, LONGEST),
  "prompts": NAME,
  "prompts_file": NAME,
  "repeats": Whole(1, 10**6),
  "response_length": Whole(0, LONGEST),
  "role": MAYBE,
  "rounds": Whole(1, 10**6),
  "row_length": Whole(2, LONGEST),
  "rows": Whole(1, 10**6),
  "run": NAME,
  "runner": NAME,
  "runs": NAME,
  "sample": Whole(1, 10**12),
  "samples": Whole(0, 10_000),
  "samples_file": NAME,
  "scorer": MAYBE,
  "seconds": Real(1e-3, 1e6),
  "set_option": NAME,
  "sets": MAYBE,
  "shard_gb": Real(1e-6, 1e6),
  "slices": Whole(1, 1000),
  "start_limit": Real(1, 1e6),
  "suite": NAME,
  "target": NAME,
  "task": NAME,
  "tasks": Whole(1, 10**9),
  "template": Text(lines=True),
  "test_fraction": DECAY,
  "text": NAME,
  "think": Real(1e-3, 1e6),
  "tokenizer": NAME,
  "topology": NAME,
  "url": NAME,
  "validation_fraction": DECAY,
  "version": NAME,
  "vocab_size": Whole(4, 10**7),
  "without": NAME,
  "workdir": NAME,
  "workers": Whole(0, 10_000),
}
_CALLED = {
  "inputs": "FILE", "format": "FORMAT", "samples_file": "--samples"
}  # fmt: skip


def check_flags(given: Mapping[str, Any]) -> None:
  """UserError for the first flag that is given a value outside its row."""
  for name, value in given.items():
    for one in value if isinstance(value, list) else [value]:
      if name in FLAGS:
        require(_CALLED.get(name, f"--{name}"), one, FLAGS[name])


def row_of(flag: str) -> Range | None:
  """The row of a flag, as 'seed' or 'config.rl.clip'; None without one."""
  if flag.startswith("config."):
    return keys.entry(RANGES, flag.removeprefix("config."))
  return FLAGS.get(flag)


def check(flat: Mapping[str, Any]) -> None:
  """UserError for the first key whose value is outside its row.

  `flat` is as `keys.flatten` makes it. A key without a row, which only
  somebody's own config has, may be anything.
  """
  for key, value in flat.items():
    row = keys.entry(RANGES, key)
    if row is not None:
      require(f"config.{key}", value, row)


def require(name: str, value: Any, row: Range) -> None:
  """UserError where the value called `name` is outside `row`."""
  if not row.holds(value):
    shown = repr(value) if isinstance(value, str) else value
    bare = isinstance(value, str) and value.strip() == _NOWHERE
    right = "hf:/path" if bare else row.right
    raise errors.UserError(f"{name}={shown}: must be {right}")

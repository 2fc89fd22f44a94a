"""The rows of the table: which work, against whom, and what is asked for."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite import flops, lengths, work
from instruct_jax.base import errors

Spec = dict[str, Any]
TINY = {
  "layers": 4,
  "width": 256,
  "heads": 4,
  "vocab_size": 8192,
  "context_length": 512,
}
SMALL = {  # GPT-2 small
  "layers": 12,
  "width": 768,
  "heads": 12,
  "vocab_size": 50_257,
  "context_length": 1024,
}
TOY = {
  "layers": 1,
  "width": 32,
  "heads": 2,
  "vocab_size": 512,
  "context_length": 64,
}


@dataclasses.dataclass(frozen=True)
class Peer:
  """Who does the same work: a script of `benchmarks/peers`."""

  name: str  # as the table has it
  environment: str  # of `environments.REQUIREMENTS`; '' is our own
  script: str


TRANSFORMERS = Peer("`generate`, its best", "transformers", "hf_generate.py")
LLAMA = Peer("llama.cpp", "llama", "llama_generate.py")
TRL_PPO = Peer("TRL 1.10", "trl-ppo", "trl_ppo.py")
TRL = Peer("TRL 1.16", "trl", "trl_supervised.py")
TRL_BFD = Peer("TRL 1.16 `bfd`", "trl", "trl_supervised.py")
TRL_WRAPPED = Peer("TRL 1.16 `wrapped`", "trl", "trl_supervised.py")
HARNESS = Peer("lm-evaluation-harness", "lm-eval", "hf_harness.py")
PEFT = Peer("PEFT", "peft", "peft_supervised.py")
OURS = Peer("PPO", "", "")  # our own other side


@dataclasses.dataclass(frozen=True)
class Row:
  """One comparison."""

  name: str
  title: str
  workload: str  # of `suite/ours.py` and the peer's script
  spec: Callable[[], Spec]
  unit: str  # what a run's `units` count
  peer: Peer | None
  suite: str
  goal: float  # of the ratio; 0: none is set
  measure: str = "faster"  # of MEASURES in `measuring`
  of: str = ""  # another row, whose runs this one reads
  changes: Spec = dataclasses.field(default_factory=dict)  # of the peer's spec
  exact: bool = True  # the peer does each unit, too


def rollout(model: Spec, **given: Any) -> Spec:
  """The spec of responses to prompts, and of an iteration on them."""
  spec = {"model": model, "minibatches": 8}
  spec |= work.rollouts(vocab_size=model["vocab_size"], **given)
  return spec | {"units": sum(spec["lengths"])}


def _ppo_ragged(count: int = 64, response: int = 128) -> Spec:
  return rollout(
    TINY,
    count=count,
    shortest=16,
    prompt=64,
    response=response,
    mean=response / 4,
  )


def _ppo_fixed() -> Spec:
  return rollout(TINY, count=64, shortest=64, prompt=64, response=64, mean=64)


def _ptx() -> Spec:
  """The fixed iteration with a text of 128 tokens an episode."""
  spec = _ppo_fixed()
  texts = work.texts(64, 128, TINY["vocab_size"])
  return spec | {"texts": texts}


def _generate_ragged() -> Spec:
  spec = rollout(SMALL, count=64, shortest=16, prompt=64, response=128, mean=32)
  ways = [["eager", 64], ["eager", 16], ["static", 64]]
  return spec | {"ways": ways}


def _generate_fixed() -> Spec:
  spec = rollout(SMALL, count=8, shortest=64, prompt=64, response=64, mean=64)
  return spec | {"ways": [["eager", 8], ["static", 8]]}


def ranking(model: Spec, K: int, prompt: int, response: int) -> Spec:
  """The spec of one ranking's update."""
  given = work.demonstrations(
    count=K,
    shortest=prompt,
    prompt=prompt,
    response=response,
    mean=response / 2,
    vocab_size=model["vocab_size"],
  )
  same = [given["prompts"][0]] * K
  pairs = math.comb(K, 2)
  return {"model": model, "units": pairs} | given | {"prompts": same}


def _demonstrations(model: Spec, count: int, **given: Any) -> Spec:
  spec = {"model": model, "batch": 8}
  spec |= work.demonstrations(
    count=count, vocab_size=model["vocab_size"], **given
  )
  return spec | {"units": sum(spec["lengths"])}


def _sft() -> Spec:
  return _demonstrations(
    TINY, 64, shortest=16, prompt=64, response=192, mean=64
  )


def _sft_packed() -> Spec:
  return _sft() | {"row": 256}


def _lora() -> Spec:
  return _sft() | {"rank": 16}


def choosing(model: Spec, count: int, **given: int) -> Spec:
  """The spec of likelihoods of four continuations each."""
  spec = {"model": model, "ways": [16, 64]}
  spec |= work.choices(
    count=count, each=4, vocab_size=model["vocab_size"], **given
  )
  return spec | {"units": 4 * count}


def _choices() -> Spec:
  """Lengths about as HellaSwag's."""
  return choosing(TINY, 64, shortest=32, prompt=128, response=64, mean=24)


def _says() -> Spec:
  """Lengths about as the answers of SQuAD and DROP, with a few long ones."""
  spec = rollout(TINY, count=64, shortest=32, prompt=128, response=64, mean=16)
  return spec | {"ways": [16, 64]}


def _toy_choices() -> Spec:
  return choosing(TOY, 3, shortest=3, prompt=6, response=5, mean=2)


def _toy() -> Spec:
  spec = rollout(TOY, count=4, shortest=3, prompt=6, response=12, mean=4)
  return spec | {"minibatches": 2}


def _toy_text() -> Spec:
  return _toy() | {"texts": work.texts(4, 12, TOY["vocab_size"])}


def _toy_demonstrations() -> Spec:
  given = {"shortest": 3, "prompt": 6, "response": 12, "mean": 4}
  return _demonstrations(TOY, 9, **given) | {"batch": 4}


def _toy_packed() -> Spec:
  return _toy_demonstrations() | {"row": 24}


ROWS = (
  Row("ppo_ragged", "PPO iteration, 4×256, 64 episodes, prompts 16–64, ragged:"
      " mean 32 of 128", "rl", _ppo_ragged, "response tokens", TRL_PPO,
      "ppo", 4.0),
  Row("ppo_fixed", "the same, 64 + 64 tokens", "rl", _ppo_fixed,
      "response tokens", TRL_PPO, "ppo", 2.8),
  Row("ppo_512", "PPO iteration, 512 episodes, ragged: mean 64 of 256", "rl",
      lambda: _ppo_ragged(512, 256), "response tokens", TRL_PPO, "ppo512",
      5.0),
  Row("generate_ragged", "generation, GPT-2 small, 64 prompts, ragged: mean 32"
      " of 128", "generate", _generate_ragged, "response tokens",
      TRANSFORMERS, "generation", 4.0),
  Row("generate_llama", "the same", "generate", _generate_ragged,
      "response tokens", LLAMA, "generation", 1.2),
  Row("generate_fixed", "generation, GPT-2 small, 8 × (64 + 64)", "generate",
      _generate_fixed, "response tokens", TRANSFORMERS, "generation", 1.7),
  Row("rm", "reward model, K = 9, prompt 256, responses up to 64", "rm",
      lambda: ranking(TINY, 9, 256, 64), "pairs", TRL, "rm", 40.0),
  Row("sft_bfd", "SFT, packed", "sft", _sft_packed, "loss tokens", TRL_BFD,
      "sft", 2.4, changes={"packing": "bfd"}),
  Row("sft_wrapped", "SFT, packed", "sft", _sft_packed, "loss tokens",
      TRL_WRAPPED, "sft", 1.8, changes={"packing": "wrapped"}, exact=False),
  Row("sft_unpacked", "SFT, not packed", "sft", _sft, "loss tokens", TRL,
      "sft", 0.0, changes={"packing": ""}),
  Row("sft_lora", "SFT with adapters of rank 16", "sft", _lora, "loss tokens",
      PEFT, "sft", 0.0),
  Row("choices", "likelihoods of 64 × 4 continuations, mean 24 of 64, contexts"
      " 32–128", "choices", _choices, "continuations", HARNESS, "evaluation",
      2.0),
  Row("says", "greedy answers to 64 prompts of 32–128 tokens, mean 16 of 64",
      "says", _says, "response tokens", HARNESS, "evaluation", 2.0),
  Row("ptx", "PPO-ptx against PPO, 64 texts of 128 tokens: time", "rl", _ptx,
      "response tokens", OURS, "ptx", 0.0, measure="slower",
      changes={"texts": None}),
  Row("ppo_memory", "peak memory of the first row's iteration", "rl",
      _ppo_ragged, "response tokens", TRL_PPO, "ppo", 0.6,
      measure="smaller", of="ppo_ragged"),
)  # fmt: skip
SMOKE = (
  Row("smoke_generate", "generation, toy", "generate", _toy,
      "response tokens", None, "smoke", 0.0),
  Row("smoke_ppo", "PPO-ptx, toy", "rl", _toy_text, "response tokens", None,
      "smoke", 0.0),
  Row("smoke_rm", "reward model, toy", "rm", lambda: ranking(TOY, 4, 6, 5),
      "pairs", None, "smoke", 0.0),
  Row("smoke_sft", "SFT, packed, toy", "sft", _toy_packed, "loss tokens",
      None, "smoke", 0.0),
  Row("smoke_choices", "likelihoods, toy", "choices", _toy_choices,
      "continuations", None, "smoke", 0.0),
  Row("smoke_says", "greedy answers, toy", "says", _toy, "response tokens",
      None, "smoke", 0.0),
)  # fmt: skip
OTHERS = ("chain", "growth")  # suites that are no rows: `parent`, `growth`


def suites() -> list[str]:
  """The names that --suite takes."""
  of_rows = dict.fromkeys(row.suite for row in (*ROWS, *SMOKE))
  names = dict.fromkeys(row.name for row in (*ROWS, *SMOKE))
  return list(of_rows | names) + list(OTHERS)


def chosen(names: Sequence[str]) -> list[Row]:
  """The rows of these suites, or of these names; UserError for an unknown."""
  for name in names:
    if name not in suites():
      raise errors.unknown("--suite", name, suites())
  return [x for x in (*ROWS, *SMOKE) if {x.suite, x.name} & set(names)]


def goal(row: Row, spec: Spec) -> float:
  """What the ratio should reach, or stay under (`measure`).

  PPO-ptx may take what its texts' operations ask for, and a tenth more.
  """
  if row.name != "ptx":
    return row.goal
  without = flops.rl(spec | {"texts": ()})
  return 1 + 1.1 * flops.text(spec) / without


def shares(spec: Spec) -> dict[str, float]:
  """How ragged a spec is, for the JSON file."""
  drawn = spec["lengths"]
  return {
    "mean_length": round(sum(drawn) / len(drawn), 2),
    "longest": max(drawn),
    "chance_of_an_end": round(
      lengths.chance_of(sum(drawn) / len(drawn), spec["response"]), 5
    )
    if sum(drawn) < len(drawn) * (spec["response"] + 1) / 2
    else 0.0,
  }

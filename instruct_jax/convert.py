"""Converts checkpoints: from Hugging Face format into a run, and back.

  python -m instruct_jax.convert hf:/path/of/checkpoint runs/pythia
  python -m instruct_jax.convert runs/ppo_ptx-tiny hf:/path/of/new/folder
  python -m instruct_jax.convert runs/ppo_ptx-files hf:OUT --role=value --noema
  python -m instruct_jax.convert runs/sft-files hf:OUT --adapters
  python -m instruct_jax.convert llama2c:stories260K.bin,tok512.bin hf:OUT

A converted run is named wherever a run can be: `config.needs.policy`, `sample
--run`. Exported folders load in transformers (AutoModelForCausalLM; reward
models and value networks as AutoModelForSequenceClassification with one label)
and in vLLM. What was trained with adapters (config.lora) leaves as a whole
model, or, with --adapters, as a folder that `peft` loads onto the base.
TARGET is new, empty, or as a conversion has left it. On many hosts that share
it this is one job, as `instruct_jax.main`. Exit codes: 0 done, 2 bad input, 75
another process of the job is gone.
"""

from absl import flags

from instruct_jax.base import command, compilation, errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import llama2c
from instruct_jax.runs import alike, exchange, processes

_ROLE = flags.DEFINE_string(
  "role", "", "policy, reward or value; '': what the run hands on."
)
_EMA = flags.DEFINE_bool("ema", True, "The averaged weights, where kept.")
_DTYPE = flags.DEFINE_string(
  "dtype", "", "float32, bfloat16 or float16; '': as imported, else float32."
)
_DROP_BIAS = flags.DEFINE_bool(
  "drop_bias", False, "Leave out a reward's bias that the family cannot hold."
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Move aside what others wrote in TARGET."
)
_ADAPTERS = flags.DEFINE_bool(
  "adapters", False, "The adapters alone, as `peft` loads them onto the base."
)
_BASE = flags.DEFINE_string(
  "base", "", "hf:/path of what adapters were trained on; '': the run names it."
)
_SHARD_GB = flags.DEFINE_float("shard_gb", 2.0, "Largest file, in 10^9 bytes.")
flags.adopt_module_key_flags(processes)


def main(argv: list[str]) -> None:
  """Converts argv[1] into argv[2], one of which is hf:/path."""
  compilation.enable_cache()
  source, target = argv[1:]
  if (others := processes.join()) is not None:
    named = {"SOURCE": source, "TARGET": target}
    is_run = not source.startswith(llama2c.PREFIX)
    more = named | alike.runs([source] if is_run else [])
    processes.start(others, more=more)
  if source.startswith(llama2c.PREFIX):
    _little_llama(source, target)
    return
  coming, going = map(hf_folder.is_reference, (source, target))
  if coming == going:
    raise errors.UserError(
      f"{source} -> {target}: one of the two should be hf:/path, the other a"
      " run's folder"
    )
  if coming:
    exchange.bring_in(
      source, target, role=_ROLE.value, overwrite=_OVERWRITE.value
    )
    print(f"{target}: a run now, as in --run={target}")
    return
  settings = {
    "role": _ROLE.value,
    "ema": _EMA.value,
    "dtype": _DTYPE.value,
    "drop_bias": _DROP_BIAS.value,
    "overwrite": _OVERWRITE.value,
  }
  folder = hf_folder.path_of(target)
  if _ADAPTERS.value:
    base = _BASE.value
    lost = exchange.send_adapters(source, folder, base=base, **settings)
  else:
    shard_bytes = int(_SHARD_GB.value * 10**9)
    lost = exchange.send_out(
      source, folder, shard_bytes=shard_bytes, **settings
    )
  for line in lost:
    print(f"Not kept: {line}.")
  print(f"{folder}: written")


def _little_llama(source: str, target: str) -> None:
  paths = source.removeprefix(llama2c.PREFIX).split(",")
  if len(paths) != 2 or not hf_folder.is_reference(target):
    raise errors.UserError(
      f"{source} -> {target}: right is llama2c:MODEL.bin,TOKENIZER.bin hf:/path"
    )
  model, tokenizer = paths
  folder = hf_folder.path_of(target)
  llama2c.to_hf(model, tokenizer, folder, overwrite=_OVERWRITE.value)
  print(f"{hf_folder.path_of(target)}: written")


if __name__ == "__main__":
  command.run_main(main, names=("SOURCE", "TARGET"))

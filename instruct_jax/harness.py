"""Any checkpoint in lm-evaluation-harness, asked by what asks it here.

  python -m instruct_jax.harness --model=instruct_jax \\
    --model_args=pretrained=runs/ppo_ptx-files --tasks=hellaswag,lambada_openai
  python -m instruct_jax.harness --model=instruct_jax \\
    --model_args=pretrained=hf:/models/pythia-160m --tasks=mine \\
    --include_path=FOLDER

It is that package's own command (`pip install 'instruct_jax[lm-eval]'`), which
knows one model more: `pretrained` is a finished run or the hf:/path of a
checkpoint in Hugging Face format, `template=own` puts each model's own template
around what it is asked, `seed` is that of samples. Batches and devices are
chosen here: --batch_size and --device change nothing.
"""

from instruct_jax.base import allocation, command, compilation, errors


def main() -> None:
  """The harness's own command."""
  try:
    from lm_eval import __main__ as theirs

    from instruct_jax.runs import harness  # makes the model known
  except ImportError as error:
    raise errors.UserError(
      f"lm-evaluation-harness cannot be imported ({error}): pip install"
      " 'instruct_jax[lm-eval]'"
    ) from None
  del harness
  allocation.keep()
  compilation.enable_cache()
  theirs.cli_evaluate()


if __name__ == "__main__":
  command.run(main)

"""The families, by the "model_type" of their config.json.

A model without a config.json of its own is written as the first that fits.
"""

from instruct_jax.hf import gemma, gpt2, llama, mistral, neox, qwen

FAMILIES = {
  "gpt2": gpt2.GPT2,
  "gpt_neox": neox.GPT_NEOX,
  "llama": llama.LLAMA,
  "mistral": mistral.MISTRAL,
  "qwen2": qwen.QWEN2,
  "qwen3": qwen.QWEN3,
  "gemma": gemma.GEMMA,
  "gemma2": gemma.GEMMA2,
  "gemma3_text": gemma.GEMMA3,
}
# Those of which the text model is read alone.
AROUND = {"gemma3": gemma.GEMMA3_WITH_IMAGES}

"""PPO against a word list: a rule in the place of the reward model.

The score of a response is how many of `config.reward.words` it uses. The KL
coefficient adapts so that the policy stays `config.rl.kl_target` nats a
response from where it started (README, detail 12). For a pretrained model of
any size, as the README shows with a story-teller of 260,000 parameters:

  python -m experiments.story_prompts > prompts.jsonl
  python -m instruct_jax.main --config=experiments/ppo_words.py \\
    --config.pretrained=hf:stories260K --config.data.prompts=prompts.jsonl

Hardware: 2 CPU cores for a small model. Expected: the score rises while the KL
settles at its target; the README's results say by how much.
"""

from experiments import common, ppo
from instruct_jax import paper


def get_config(variant="files"):
  """Variants: files."""
  common.known(variant, ("files",), "ppo_words")
  config = ppo.make("ppo_words", variant, paper.PPO, ptx_coef=0.0).unlock()
  config.reward.kind = "words"
  config.reward.words = ("happy", "friend", "smiled", "thank", "love", "hug")
  del config.needs.reward, config.needs.gpt
  config.needs.policy = config.needs.sft = "pretrain.py:files"
  config.data.template = "plain"
  config.data.prompt_length = 32
  config.data.response_length = 64
  config.data.row_length = 128
  config.rl.kl_coef = 0.1
  config.rl.kl_target = 6.0
  config.rl.kl_horizon = 200.0
  config.rl.missing_end = "none"  # stories are longer than a response
  config.batch.prompts = 128
  config.rl.minibatches = 4
  config.steps = 80
  config.optimizer.policy.learning_rate = 2e-4
  config.optimizer.value.learning_rate = 1e-3
  config.evaluation.prompts = 64
  config.evaluation.batch = 64
  config.evaluation.subjects = {
    "sft": common.subject("sft"),
    "ppo_words": common.subject(),
  }
  return config.lock()

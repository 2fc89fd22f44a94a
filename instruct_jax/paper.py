"""The paper's numbers as data: every table and setting that anything here uses.

*Training language models to follow instructions with human feedback*, Ouyang et
al. 2022, arXiv:2203.02155; section and appendix numbers are its own. Where it
is silent, the predecessors' code speaks: lm-human-preferences (2019) and
summarize-from-feedback (2020). What is our choice says so. Sizes are named as
in the configs' variants: '1.3b', '6b', '175b'.
"""

import dataclasses

SIZES = ("1.3b", "6b", "175b")


# Architecture (appendix C; Brown et al. 2020, table 2.1).


@dataclasses.dataclass(frozen=True)
class Size:
  """One GPT-3: `width` = heads * head_size, an MLP of four times that."""

  layers: int
  width: int
  heads: int
  head_size: int

  @property
  def mlp_width(self) -> int:
    """The hidden units of a block's MLP."""
    return 4 * self.width


# DEPARTS: attention is dense everywhere. GPT-3 alternates dense layers with
# locally banded sparse ones, whose pattern was never published.
GPT3 = {
  "125m": Size(layers=12, width=768, heads=12, head_size=64),
  "350m": Size(layers=24, width=1024, heads=16, head_size=64),
  "760m": Size(layers=24, width=1536, heads=16, head_size=96),
  # DEPARTS: 16 heads. Table 2.1 prints 24 of size 128, which is not 2048.
  "1.3b": Size(layers=24, width=2048, heads=16, head_size=128),
  "2.7b": Size(layers=32, width=2560, heads=32, head_size=80),
  # 6.7 billion parameters; the paper calls it 6B.
  "6b": Size(layers=32, width=4096, heads=32, head_size=128),
  # DEPARTS: width 5120. Table 2.1 prints 5140, which 40 heads do not divide.
  "13b": Size(layers=40, width=5120, heads=40, head_size=128),
  "175b": Size(layers=96, width=12288, heads=96, head_size=128),
}

CONTEXT_LENGTH = 2048  # tokens (appendix C)
PROMPT_LENGTH = 1024  # longer prompts are dropped (appendix C)
RESPONSE_LENGTH = 1024  # tokens (appendix C)
VOCAB_SIZE = 50257  # GPT-2's byte-pair encoding (Radford et al. 2019)
COMPUTE_DTYPE = "bfloat16"  # the paper says 16 bits: fp16 (appendix C)
PARAM_DTYPE = "float32"  # master weights (appendix C)

ADAM_B1 = 0.9  # appendix C
ADAM_B2 = 0.95  # appendix C
ADAM_EPS = 1e-8  # not in the paper: GPT-3's (Brown et al. 2020, appendix B)
RL_ADAM_EPS = 1e-5  # lm-human-preferences
WEIGHT_DECAY = 0.0  # none in the paper, none in lm-human-preferences
# Not in the paper: GPT-3's global-norm clip (Brown et al. 2020, appendix B).
CLIP_NORM = 1.0


# Supervised fine-tuning, the reward model, initialisation for RL (C.1 to C.3).


@dataclasses.dataclass(frozen=True)
class FineTuning:
  """Settings of one supervised stage. Its schedule is a cosine."""

  learning_rate: float  # peak
  batch: int  # demonstrations, or prompts, per step
  epochs: int
  final_fraction: float  # of the peak, at the end
  warmup_steps: int = 0
  dropout: float = 0.0  # residual
  pretraining_fraction: float = 0.0  # of pretraining data mixed in
  schedule: str = "cosine"


def _sft(learning_rate: float, batch: int) -> FineTuning:
  return FineTuning(
    learning_rate, batch, epochs=16, final_fraction=0.1, dropout=0.2
  )


SFT = {  # C.1
  "1.3b": _sft(9.65e-6, 32),
  "6b": _sft(9.65e-6, 32),
  "175b": _sft(5.03e-6, 8),
}

# One 6B reward model serves every policy size (C.2).
RM_SIZE = "6b"
RM_SIZES = {"1.3b": RM_SIZE, "6b": RM_SIZE, "175b": RM_SIZE}
RM = {"6b": FineTuning(9e-6, batch=64, epochs=1, final_fraction=0.1)}
K_MIN, K_MAX = 4, 9  # responses that a labeler ranks (3.5)
RM_MAX_PAIRS = 2304  # of a batch: 64 prompts, C(9, 2) pairs each (C.2)


def _rl_init(learning_rate: float, batch: int) -> FineTuning:
  return FineTuning(
    learning_rate,
    batch,
    epochs=2,
    final_fraction=0.1,
    pretraining_fraction=0.1,
  )


# The baselines FLAN and T0, of 175B: rates of 4e-6 and 6e-6 were tried, and
# checkpoints picked by reward-model score. That both were picked at 4e-6, of
# one pass over a million examples, is from memory of C.5, not from the text.
INSTRUCTION_TUNING = {
  "flan": FineTuning(4e-6, batch=64, epochs=1, final_fraction=0.1),
  "t0": FineTuning(4e-6, batch=128, epochs=1, final_fraction=0.1),
}
# Rows of a data set that count in FLAN's mixture (Wei et al. 2022, section
# 2.3), after Raffel et al. 2020 (section 3.5.2).
MIXTURE_CAP = 3000


RL_INIT = {  # from GPT-3, not from SFT (C.3)
  "1.3b": _rl_init(5e-6, 32),
  "6b": _rl_init(1.04e-5, 32),
  "175b": _rl_init(2.45e-6, 8),
}


# Reinforcement learning (C.4).

# The value function starts from the reward model, of whatever size the policy.
VALUE_LEARNING_RATE = {"1.3b": 9e-6, "6b": 9e-6, "175b": 5e-6}
# Swept, log-linearly, from the first to the last; 175B: the two tried.
POLICY_LEARNING_RATES = {
  "1.3b": (2.55e-6, 2.55e-5),
  "6b": (2.55e-6, 2.55e-5),
  "175b": (2.55e-6, 3.74e-6),
}
POLICY_DIVERGES_ABOVE = 8.05e-6  # without the pretraining term
# Not in the paper, which does not say what its sweep chose: the largest rate
# that is stable without the pretraining term, also the middle of the sweep;
# for 175B the smaller of the two.
POLICY_LEARNING_RATE = {"1.3b": 8.05e-6, "6b": 8.05e-6, "175b": 2.55e-6}


@dataclasses.dataclass(frozen=True)
class Ppo:
  """Settings of PPO and PPO-ptx, the same for every size (C.4)."""

  episodes: int = 256_000
  unique_prompts: int = 31_000  # about
  batch_episodes: int = 512  # of an iteration
  minibatches: int = 8
  minibatch_episodes: int = 64
  inner_epochs: int = 1
  kl_coef: float = 0.02  # β
  ptx_coef: float = 0.0  # γ
  pretraining_per_episode: int = 0  # pretraining examples
  discount: float = 1.0
  gae_lambda: float = 0.95  # lm-human-preferences
  clip: float = 0.2
  value_clip: float = 0.2  # lm-human-preferences
  temperature: float = 1.0  # of rollouts
  ema_decay: float = 0.992  # per update; what is evaluated
  schedule: str = "constant"
  warmup_steps: int = 10  # iterations
  warmup_from: float = 0.1  # of the peak
  missing_end: str = "fixed"  # lm-human-preferences; rl.shape_scores
  missing_end_value: float = -1.0  # lm-human-preferences
  whiten_rewards: bool = False  # lm-human-preferences: on; here an option
  adaptive_kl_limit: float = 0.2  # lm-human-preferences; adaptive KL is off

  @property
  def iterations(self) -> int:
    """Steps of the train loop."""
    return self.episodes // self.batch_episodes

  @property
  def batch_pretraining(self) -> int:
    """Pretraining examples of an iteration."""
    return self.batch_episodes * self.pretraining_per_episode


PPO = Ppo()
PPO_PTX = Ppo(ptx_coef=27.8, pretraining_per_episode=8)


# Data (section 3, appendix A).


@dataclasses.dataclass(frozen=True)
class Split:
  """Prompts by split and by who wrote them (table 6)."""

  train_labeler: int
  train_customer: int
  valid_labeler: int
  valid_customer: int

  @property
  def train(self) -> int:
    """All training prompts."""
    return self.train_labeler + self.train_customer

  @property
  def valid(self) -> int:
    """All validation prompts."""
    return self.valid_labeler + self.valid_customer


DATA = {
  "sft": Split(11_295, 1_430, 1_550, 103),
  "rm": Split(6_623, 26_584, 3_488, 14_399),
  "ppo": Split(0, 31_144, 0, 16_185),
}
MAX_PROMPTS_PER_USER = 200  # 3.2
# Prompts that share a "long common prefix" are duplicates (3.2); how long, the
# paper does not say: characters, our choice.
LONG_PREFIX = 128

USE_CASES = {  # per cent of API prompts (table 1)
  "generation": 45.6,
  "open_qa": 12.4,
  "brainstorming": 11.2,
  "chat": 8.4,
  "rewrite": 6.6,
  "summarization": 4.2,
  "classification": 3.5,
  "other": 3.5,
  "closed_qa": 2.6,
  "extract": 1.9,
}

LIKERT = (1, 7)  # overall quality, from worst to best (table 3)
METADATA = {  # yes or no for each response (table 3)
  "wrong_task": "Fails to follow the correct instruction / task",
  "inappropriate": "Inappropriate for customer assistant",
  "hallucination": "Hallucination",
  "satisfies_constraint": ("Satisfies constraint provided in the instruction"),
  "sexual": "Contains sexual content",
  "violent": "Contains violent content",
  "encourages_harm": (
    "Encourages or fails to discourage violence/abuse/terrorism/self-harm"
  ),
  "denigrates": "Denigrates a protected class",
  "harmful_advice": "Gives harmful advice",
  "opinion": "Expresses opinion",
  "moral_judgment": "Expresses moral judgment",
}


# Results (section 4, appendices D and E).


@dataclasses.dataclass(frozen=True)
class Result:
  """A figure of the paper with its margin, both in per cent."""

  value: float
  margin: float | None = None


AGREEMENT = {  # between labelers (3.4)
  "training": Result(72.6, 1.5),
  "held_out": Result(77.3, 1.3),
}
RM_FOLDS = 5  # groups of labelers, one of which is held out (4.1)
RM_ACCURACY = {  # 4.1, means of as many reward models
  "training": Result(72.4, 0.4),
  "held_out": Result(69.6, 0.9),
}
RESULTS = {
  # Preferences of the 175B PPO-ptx (4.1)
  "preferred_to_gpt3": Result(85, 3),
  "preferred_to_few_shot_gpt3": Result(71, 4),
  "preferred_to_flan": Result(78, 4),
  "preferred_to_t0": Result(79, 4),
  # Closed-domain tasks (4.1)
  "hallucination_gpt3": Result(41),
  "hallucination_ppo_ptx": Result(21),
  # RealToxicityPrompts, when asked to be respectful (4.2)
  "fewer_toxic_outputs": Result(25),
}
# Compute of the 175B models in petaflop/s-days (section 5.1): each stage's own,
# and GPT-3's for pretraining.
COMPUTE = {"sft": 4.9, "ppo_ptx": 60.0, "gpt3": 3640.0}
PTX_COEF_RECOVERS = 20.0  # γ from which 1.3B regains DROP and SQuADv2 (E)
KL_COEF_FAILS = 2.0  # even this β does not (E)

MODELS = ("gpt", "prompted_gpt", "sft", "ppo", "ppo_ptx")  # main figure

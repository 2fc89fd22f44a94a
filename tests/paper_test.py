"""Every number of the paper's variants comes from the paper's tables.

The expectations are written out, not read from `paper.py`: a slip there would
otherwise agree with itself.
"""

import importlib
import inspect
import pathlib
import re

import pytest

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.maths import rl
from instruct_jax.runs import config_checks
from instruct_jax.worlds.microworld import judge, prompts

SIZES = ("1.3b", "6b", "175b")
EXPERIMENTS = (
  "dataset",
  "pretrain",
  "sft",
  "rankings",
  "rm",
  "select",
  "ppo_init",
  "ppo",
  "ppo_ptx",
  "dpo",
  "rloo",
  "grpo",
  "best_of_n",
)


def config_of(name, variant):
  return importlib.import_module(f"experiments.{name}").get_config(variant)


ARCHITECTURE = {  # layers, width, heads, head size
  "1.3b": (24, 2048, 16, 128),
  "6b": (32, 4096, 32, 128),
  "175b": (96, 12288, 96, 128),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["sft", "ppo_init", "ppo", "ppo_ptx"])
def test_architecture(name, size):
  model = config_of(name, size).model
  found = (model.layers, model.width, model.heads, model.head_size)
  assert found == ARCHITECTURE[size]
  assert model.mlp_width == 4 * model.width
  assert model.dtype == "bfloat16"
  assert (model.norm, model.positions, model.mlp) == (
    "layernorm",
    "learned",
    "gelu",
  )
  data = config_of(name, size).data
  assert data.prompt_length + data.response_length == 2048


@pytest.mark.parametrize("size", SIZES)
def test_one_6b_reward_model_for_every_size(size):
  rm = config_of("rm", size)
  assert rm.variant == "6b"
  for config in (rm, config_of("ppo", size), config_of("ppo_ptx", size)):
    found = config.reward_model
    assert (found.layers, found.width) == ARCHITECTURE["6b"][:2]
  optimizer = rm.optimizer.reward
  assert (optimizer.name, optimizer.learning_rate) == ("adam", 9e-6)
  assert (optimizer.schedule, optimizer.final_fraction) == ("cosine", 0.1)
  assert (rm.batch.rankings, rm.epochs) == (64, 1)
  assert rm.data.k_max == 0  # as many as the rankings have
  assert rm.batch.rankings * 9 * 8 // 2 == paper.RM_MAX_PAIRS == 2304


SFT = {"1.3b": (9.65e-6, 32), "6b": (9.65e-6, 32), "175b": (5.03e-6, 8)}


@pytest.mark.parametrize("size", SIZES)
def test_sft(size):
  config = config_of("sft", size)
  optimizer = config.optimizer.policy
  assert (optimizer.learning_rate, config.batch.demonstrations) == SFT[size]
  assert (config.epochs, config.model.dropout) == (16, 0.2)
  assert (optimizer.schedule, optimizer.final_fraction) == ("cosine", 0.1)
  assert (optimizer.warmup_steps, config.keep_epochs) == (0, True)
  assert (optimizer.b1, optimizer.b2) == (0.9, 0.95)
  assert dict(config.loss) == {"demonstrations": 1.0}


INIT = {"1.3b": (5e-6, 32), "6b": (1.04e-5, 32), "175b": (2.45e-6, 8)}


@pytest.mark.parametrize("size", SIZES)
def test_initialisation_for_rl(size):
  config = config_of("ppo_init", size)
  optimizer = config.optimizer.policy
  assert (optimizer.learning_rate, config.batch.demonstrations) == INIT[size]
  assert (config.epochs, optimizer.final_fraction) == (2, 0.1)
  assert config.loss.pretraining == pytest.approx(0.1)
  assert config.loss.demonstrations == pytest.approx(0.9)


VALUE = {"1.3b": 9e-6, "6b": 9e-6, "175b": 5e-6}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["ppo", "ppo_ptx"])
def test_ppo(name, size):
  config = config_of(name, size)
  rl, policy, value = config.rl, config.optimizer.policy, config.optimizer.value
  assert config.batch.prompts * config.steps == 256_000
  assert (config.batch.prompts, rl.minibatches, rl.inner_epochs) == (512, 8, 1)
  assert (rl.kl_coef, rl.clip, rl.temperature) == (0.02, 0.2, 1.0)
  assert (rl.discount, rl.gae_lambda) == (1.0, 0.95)
  assert (rl.missing_end, rl.missing_end_value) == ("fixed", -1.0)
  assert config.ema.policy == 0.992
  assert value.learning_rate == VALUE[size]
  assert 2.55e-6 <= policy.learning_rate <= 2.55e-5
  assert policy.learning_rate <= 8.05e-6 or name == "ppo_ptx"
  for optimizer in (policy, value):
    assert (optimizer.schedule, optimizer.warmup_steps) == ("constant", 10)
    assert (optimizer.warmup_from, optimizer.eps) == (0.1, 1e-5)
    assert (optimizer.weight_decay, optimizer.b2) == (0.0, 0.95)
  assert config.model.dropout == config.reward_model.dropout == 0.0
  assert config.needs.policy == f"ppo_init.py:{size}"
  if name == "ppo":
    assert (rl.ptx_coef, config.batch.pretraining) == (0.0, 0)
  else:
    assert (rl.ptx_coef, config.batch.pretraining) == (27.8, 8 * 512)
  assert config.data.prompt_length == config.data.response_length == 1024


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["sft", "ppo", "ppo_ptx"])
def test_the_models_of_the_main_figure_are_compared(name, size):
  """GPT, prompted GPT and SFT beside the run (figure 1), at every size.

  GPT is the checkpoint of `config.pretrained`.
  """
  config = config_of(name, size)
  tuned = {"flan", "t0"} if name == "ppo_ptx" else set()  # figure 5
  names = {"gpt", "prompted_gpt", "sft", name}
  assert set(config.evaluation.subjects) == names | tuned
  assert config.evaluation.subjects.prompted_gpt.prompted
  assert {s.run for s in config.evaluation.subjects.values()} <= {
    "",
    *config.needs,
  }
  assert (config.needs.gpt, config.pretrained) == ("", "")


def test_the_policy_learns_at_a_rate_of_the_sweep_that_does_not_diverge():
  for size, (least, most) in paper.POLICY_LEARNING_RATES.items():
    rate = config_of("ppo", size).optimizer.policy.learning_rate
    assert least <= rate <= min(most, paper.POLICY_DIVERGES_ABOVE)
  assert paper.POLICY_LEARNING_RATES["175b"] == (2.55e-6, 3.74e-6)


def test_gamma_and_beta_are_where_the_paper_says_that_they_work():
  assert paper.PPO_PTX.ptx_coef >= paper.PTX_COEF_RECOVERS == 20
  assert paper.PPO_PTX.kl_coef < paper.KL_COEF_FAILS == 2


def test_adaptive_kl_has_the_limit_of_2019():
  limit = inspect.signature(rl.next_kl_coef).parameters["limit"].default
  assert limit == paper.PPO.adaptive_kl_limit == 0.2


def test_prompts_of_table_6():
  assert paper.DATA["sft"].train == 12_725
  assert paper.DATA["sft"].valid == 1_653
  assert paper.DATA["rm"].train == 33_207
  assert paper.DATA["rm"].valid == 17_887
  unique = paper.DATA["ppo"].train
  assert round(unique, -3) == paper.PPO.unique_prompts == 31_000


@pytest.mark.parametrize("variant", ["tiny", "files", *SIZES])
def test_hygiene_of_prompts(variant):
  data = config_of("dataset", variant).data
  assert (data.per_user, data.remove_pii) == (200, True)


def test_labelers_rank_four_to_nine():
  rankings = config_of("rankings", "tiny").rankings
  assert (rankings.k_min, rankings.k_max) == (4, 9)


def test_the_microworld_has_the_use_cases_of_table_1_and_flags_of_table_3():
  assert set(prompts.USE_CASES) == set(paper.USE_CASES)
  assert sum(paper.USE_CASES.values()) == pytest.approx(100, abs=0.5)
  paper_only = set(judge.FLAGS) - set(paper.METADATA)
  assert paper_only == {"fails_instruction"}  # the paper's wrong_task


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("variant", ["tiny", "test", "files", *SIZES])
def test_every_variant_builds_and_holds_together_or_is_refused(name, variant):
  missing = {"pretrain": SIZES, "rankings": ("files", *SIZES)}
  if variant in missing.get(name, ()):
    with pytest.raises(errors.UserError, match="variant"):
      config_of(name, variant)
    return
  config = config_of(name, variant)
  assert config.is_locked
  if variant == "files" or variant in SIZES:
    kinds = ("pretraining", "demonstrations", "rankings", "prompts")
    config.data.update(dict.fromkeys(kinds, __file__))  # files that exist
  config_checks.check(config)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_docstring_says_what_it_is_and_how_to_run_it(name):
  text = importlib.import_module(f"experiments.{name}").__doc__
  command = f"python -m instruct_jax.main --config=experiments/{name}.py"
  assert command in text
  assert "Paper" in text or "paper" in text
  assert "Hardware" in text or name == "select"


def test_an_unknown_variant_is_named_with_the_nearest():
  with pytest.raises(errors.UserError, match="Did you mean 'tiny'"):
    config_of("sft", "tinny")


@pytest.mark.parametrize("name", ["sft", "rm", "ppo", "ppo_ptx"])
def test_small_variants_differ_in_numbers_only(name):
  """The algorithms are the paper's in every variant."""
  for variant in ("tiny", "test", "files"):
    small, large = config_of(name, variant), config_of(name, "6b")
    assert small.algorithm == large.algorithm
    if name in ("ppo", "ppo_ptx"):
      same = set(large.rl) - {"kl_coef", "ptx_coef", "minibatches"}
      for key in same:
        assert small.rl[key] == large.rl[key], key


def test_every_constant_is_used_or_held():
  """paper.py is the specification: what nothing reads says nothing."""
  root = pathlib.Path(paper.__file__).parent.parent
  sources = [
    path.read_text()
    for folder in ("instruct_jax", "experiments", "tests")
    for path in (root / folder).rglob("*.py")
  ]
  for name in vars(paper):
    if name.isupper():
      pattern = rf"paper\.{name}\b|{{.*: {name}\b"  # or by paper.py itself
      assert any(re.search(pattern, text) for text in sources), name

"""What the processes of a job have to have in common, and how it is said."""

from etils import epath

from instruct_jax.runs import alike, plan, references


def facts(tmp_path, seed, **options):
  source = epath.Path(__file__).parents[1] / "experiments" / "rm.py"
  config, _ = references.load_config("rm.py:test", source.parent)
  config.seed = seed
  stage = plan.plan(config, source, epath.Path(tmp_path), {"seed": seed})
  return alike.facts_of(plan.in_order(stage), options)


def test_the_same_is_the_same(tmp_path):
  assert alike.difference(facts(tmp_path, 1), facts(tmp_path, 1)) == ""


def test_a_key_is_said_once_for_all_stages(tmp_path):
  said = alike.difference(facts(tmp_path, 1), facts(tmp_path, 2))
  first, *_ = said.split("; ")
  assert first == "rm: config.seed is 2, there 1"
  assert said.count("config.seed") == 1


def test_options_and_code(tmp_path):
  mine = facts(tmp_path, 1, **{"--keep_old": 3})
  said = alike.difference(mine, mine | {"--keep_old": "4"})
  assert said == "--keep_old is 4, there 3"
  name = "instruct_jax/training/loop.py"
  said = alike.difference(mine, mine | {name: "0"})
  assert said == f"{name} is 0, there {mine[name]}"
  said = alike.difference(mine, {k: v for k, v in mine.items() if k != name})
  assert said == f"{name} is absent, there {mine[name]}"


def test_of_many_differences_the_first_few(tmp_path):
  mine = facts(tmp_path, 1)
  said = alike.difference(mine, dict.fromkeys(mine, "x"))
  assert said.startswith("python is x, there 3.")
  assert said.endswith(" more")
  assert said.count(";") == 3

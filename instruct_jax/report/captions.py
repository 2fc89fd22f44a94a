"""What the tables of the evaluations are called, and how they are written.

A table that is not listed is shown as it is, after those that are.
"""

import dataclasses

from instruct_jax import paper


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """How one table of an evaluation is called and written."""

  title: str
  caption: str = ""
  percent: bool = False
  but: tuple[str, ...] = ()  # parts of labels for which `percent` is turned
  see: str = ""  # what a reader should look for
  axis: str = ""  # of its chart; "" for none
  uncharted: tuple[str, ...] = ()  # parts of labels that the chart leaves out


def _paper(result: paper.Result) -> str:
  margin = f" ± {result.margin}" if result.margin is not None else ""
  return f"{result.value}{margin} %"


# In the order of the report. What is not listed comes after them, as it is.
EXHIBITS = {
  "likert": Exhibit(
    "Overall quality",
    "Likert, 1 to 7 (section 4.1).",
    see="Points further right are better; in the paper GPT, prompted GPT, SFT"
    " and RL lie each right of the one before.",
    axis="Likert, 1 to 7",
  ),
  "score_wins": Exhibit(
    "Preferred by the reward model",
    "High here and low with labelers is over-optimisation.",
    percent=True,
    see="The gap to what labelers prefer: a model that only the reward model"
    " likes has been optimised too far.",
  ),
  "score": Exhibit(
    "Score of the reward model",
    "By this run's reward model, by which demonstrations score 0 on average.",
    see="Whether it rises with every stage; demonstrations are 0.",
  ),
  "metadata": Exhibit(
    "Metadata of the responses",
    "Share of the responses to which it applies (table 3, figure 4).",
    percent=True,
    see="Left is better for every flag but 'satisfies constraint'.",
    axis="responses, %",
  ),
  "win_rates": Exhibit(
    "Win rates",
    "How often a column's model is preferred, ties half: as it is, and as"
    " AlpacaEval 2 controls for length, as if both answers were as long.",
    percent=True,
    but=("longer",),
  ),
  "win_rates_by_labelers": Exhibit("Win rates by labelers", percent=True),
  "win_rates_by_source": Exhibit(
    "Win rates by where prompts come from",
    "Figure 3: prompts written for models of one kind or another.",
    percent=True,
  ),
  "win_rates_by_use_case": Exhibit("Win rates by use case", percent=True),
  "strengths": Exhibit(
    "Strengths",
    "Bradley and Terry's, in log-odds against the average model.",
  ),
  "judge_accuracy": Exhibit(
    "How often the judge is right",
    "Of pairs of held-out responses that labelers ordered.",
    percent=True,
  ),
  "labeler_agreement": Exhibit(
    "Agreement between labelers",
    "pairwise: how often two say the same; alpha: Krippendorff's, 0 as much as"
    " by chance, 1 always.",
  ),
  "metadata_by_labelers": Exhibit("Metadata by labelers", percent=True),
  "metadata_by_source": Exhibit("Metadata by prompts' source", percent=True),
  "metadata_by_use_case": Exhibit("Metadata by use case", percent=True),
  "hallucination": Exhibit(
    "Closed-domain hallucination",
    "Share that makes up what the given text does not say. The paper: "
    + _paper(paper.RESULTS["hallucination_gpt3"])
    + " for GPT-3, "
    + _paper(paper.RESULTS["hallucination_ppo_ptx"])
    + " for PPO-ptx.",
    percent=True,
    see="Left is better; the paper's falls by half from GPT-3 to PPO-ptx. Few"
    " prompts are unanswerable: mind their n.",
    axis="responses that make something up, %",
  ),
  "truthfulness": Exhibit(
    "Truthfulness",
    "On topics that alignment never touched (TruthfulQA's place, figure 6).",
    percent=True,
    see="Right is better for 'truthful', left for 'popular falsehood'. There"
    " are few topics, so the intervals are wide.",
    axis="answers, %",
  ),
  "toxicity": Exhibit(
    "Toxic continuations",
    "Without instruction, asked for respect, asked for bias (figure 7).",
    percent=True,
    see="Left is better; the paper's falls only where respect is asked for.",
    axis="toxic continuations, %",
  ),
  "bias": Exhibit(
    "Bias",
    "Entropy of the choice in bits (1: no preference), and how often the"
    " stereotype is likelier (section 4.2).",
    but=("stereotyped",),
    see="Whether any stage moves it: the paper found no trend.",
  ),
  "nlp": Exhibit(
    "Public-NLP-like tasks",
    "Zero-shot exact match and F1; what falls below SFT is the alignment tax.",
    percent=True,
    see="Points left of SFT's or GPT's: what alignment cost. The paper wins"
    " it back by pretraining text in RL (ptx).",
    axis="exact match, %",
    uncharted=("f1",),
  ),
  "few_shot": Exhibit(
    "Public-NLP-like tasks with examples",
    "Few-shot exact match and F1: each item after training items of its task,"
    " as many as its context leaves room for (figure 29).",
    percent=True,
    see="Whether examples help, and whether what alignment cost stays lost.",
    axis="exact match, %",
    uncharted=("f1",),
  ),
  "language": Exhibit(
    "Generalisation",
    "Likert of answers in another language and to a form never seen, and how"
    " often zorp is answered in zorp (section 4.3).",
    but=("share",),
    see="Whether what was rare or absent in training improves with the rest.",
  ),
  "mistakes": Exhibit(
    "Simple mistakes",
    "The share handled right: false premises denied, plain questions answered"
    " without hedging, several constraints met (section 4.3, figure 9).",
    percent=True,
    see="Right is better; who denies or hedges on everything is found out by"
    " true premises and by plain questions.",
    axis="handled right, %",
  ),
  "kl": Exhibit(
    "KL from the reference",
    "Nats a response, from the model that a line names; then a token, for"
    " scale.",
    see="How far each model lies from it; a few nats a response are little.",
  ),
  "loss": Exhibit(
    "Loss of held-out demonstrations",
    "Nats a token.",
    see="Lowest for SFT, which was trained on such; what is trained from it on"
    " should not raise it much.",
  ),
  "length": Exhibit(
    "Length of responses",
    "In tokens, and how many end by themselves.",
    but=("ended",),
    see="Whether a model is liked for being longer.",
  ),
  "reward": Exhibit(
    "Reward model",
    'Accuracy on pairs of held-out prompts, beside "the longer wins", the judge'
    " or a bag of words; chance is 50 %. The paper: "
    + _paper(paper.RM_ACCURACY["training"])
    + " for labelers trained on, "
    + _paper(paper.RM_ACCURACY["held_out"])
    + " for held-out ones (4.1).",
    percent=True,
    but=("log loss",),
    see="The distance to 50 % (chance), to 'longer', and to the judge, which is"
    " the most there is to know.",
  ),
  "reward_pairs": Exhibit(
    "Reward model, by what is compared",
    "Accuracy on pairs of held-out prompts, by how far apart the labeler put"
    " the two, by whose responses they are and by where the prompt is from.",
    percent=True,
    see="Pairs far apart should be easy; near 50 % for neighbours is where"
    " labelers differ, too.",
  ),
  "reward_models": Exhibit(
    "Reward models by round",
    "Accuracy on the same held-out pairs; a column is the reward model that"
    " this policy was trained by. A round's lines are pairs of two responses"
    " of one source; 'policy' is that of the round before.",
    percent=True,
    see="Whether the newer one knows more of what a policy says (round 2,"
    " policy), and no less of the rest. Few pairs are of one source: mind n.",
  ),
  "calibration": Exhibit(
    "Calibration of the reward model",
    "Pairs of held-out prompts, by how sure the model is of its favourite:"
    " the probability σ(score difference), and how often labelers agree.",
    percent=True,
    see="Points on the dashed line: as sure as it may be. Below it the model"
    " is too sure of itself, above it not sure enough.",
  ),
  "folds_mean": Exhibit(
    "Reward models and labelers that they never saw",
    f"Means of {paper.RM_FOLDS} reward models, each trained without a fifth of"
    " the labelers (4.1), with their standard errors; pairs of prompts that"
    " none was trained on.",
    percent=True,
    see="Whether labelers that were left out are predicted nearly as well as"
    " those trained on: then the model has learned what labelers share.",
  ),
  "folds": Exhibit(
    "The same, by the group that is left out",
    "Accuracy; a column is the reward model trained without that group.",
    percent=True,
    see="How much the groups differ: their intervals are wide.",
  ),
  "folds_groups": Exhibit(
    "Groups of labelers",
    "Who is in them, and how many training rankings they made.",
  ),
  "epochs": Exhibit(
    "SFT by epoch",
    "Loss of validation demonstrations; score of the reward model, Likert and"
    " how often labelers prefer it to the first epoch (a half: as often as"
    " not), on validation prompts (C.1).",
    see="Whether the score goes on rising after the epoch of the lowest loss:"
    " the paper's did.",
  ),
  "overoptimization": Exhibit(
    "Over-optimisation of the reward model",
    "Of a PPO run with little KL penalty, by step, and of SFT's best of n: nats"
    " from SFT, what the reward model says (proxy), and the judge (gold: score,"
    " 0 to 1; Likert); how often labelers prefer it to a response of SFT's (Gao"
    " et al. 2022).",
    see="Whether gold falls while proxy rises, and at which KL.",
  ),
  "agreement": Exhibit(
    "Agreement between labelers",
    "Of pairs that both order. The paper: "
    + _paper(paper.AGREEMENT["training"])
    + " (training), "
    + _paper(paper.AGREEMENT["held_out"])
    + " (held-out).",
    percent=True,
    see="What a reward model can reach at most: labelers do not agree more with"
    " it than with each other.",
  ),
  "subjects": Exhibit(
    "How the models were asked",
    "The temperature that users' prompts were answered at (automatic sets are"
    " answered greedily), and what prompted GPT read in front of them.",
  ),
  "models": Exhibit(
    "The models",
    "How many parameters each has, and what it was trained with, as far as it"
    " applies: β (kl_coef), γ (ptx_coef), the policy's learning rate, episodes,"
    " the epochs of supervised training, and the share of pretraining text in"
    " the initialisation (init_ptx).",
  ),
  "not_measured": Exhibit("What was not measured, and why"),
  "prefixes": Exhibit(
    "The prefix of prompted GPT",
    "Mean score of the reward model on validation prompts, for every candidate;"
    " the highest was taken.",
    see="How much the choice is worth: intervals that overlap are a toss-up.",
  ),
  "left_out": Exhibit("Models that are left out"),
  "mixture": Exhibit(
    "Mixture of tasks",
    "Training rows of every task, and its share: examples-proportional, with a"
    " cap.",
  ),
  "preference_by_use_case": Exhibit("Preference by use case", percent=True),
  "preference_by_source": Exhibit(
    "Preference by where prompts come from",
    "Figure 3: 'instruct' are users' prompts, 'gpt' texts for a plain language"
    " model to go on with, given to every model as they are.",
    percent=True,
  ),
  "likert_by_use_case": Exhibit("Likert by use case"),
  "departures": Exhibit("Departures from the paper"),
  "data_cleaning": Exhibit("Records that were taken out on purpose"),
  "data_limits": Exhibit("What the limits drop and cut"),
  "data_warnings": Exhibit("Limits that take more than a tenth, and circles"),
}


# What a reader should look for, by section of the page.
SECTIONS = {
  "preference": "Whether each model's interval lies right of the line (better"
  " than the baseline) or left of it, and whether held-out labelers, whose"
  " taste was never trained on, agree with the others.",
  "claims": "Which numbers lie beyond their margin, and which of them would"
  " still do so in another seed: what points to a claim in one run need not"
  " show it in several.",
  "way": "Whether both rise together. Where the reward model's score goes on"
  " rising with the KL while the judge's falls, the policy exploits the reward"
  " model (over-optimisation).",
  "evaluations": "Two models differ surely where their intervals are far"
  " apart; bars and brackets are 95 % intervals, clustered by what is not"
  " independent (n values in so many clusters, beside every row).",
  "samples": "Whether the better liked response is better for a reason that"
  " you see, and what a use case is still bad at.",
  "checks": "Each is a number that no healthy run has, then what is known to"
  " cure it; what was not measured is not accused (python -m"
  " instruct_jax.doctor says the same of any run).",
  "runs": "Where the time went, and digests: equal ones are equal parameters,"
  " bit for bit.",
  "metrics": "Everything that was measured, under the names that results.json"
  " has.",
}

# In what world the numbers hold, by `config.data.source`.
MICROWORLD = (
  "Labelers are simulated and the world is a microworld: procedural English"
  " with an exact judge. No person has judged anything here, and the numbers"
  " say nothing of models or people outside of it."
)
FILES = (
  "The data are people's own files: {files}. No labeler, simulated or not, has"
  " judged the responses on this page; what there is to compare them is the"
  " reward model and the measures below."
)
OTHER_WORLD = (
  "The world is {source}, a module of its own: its judge, labelers and tasks,"
  " where it has them, are whatever that module says."
)


# What the closing table shows: label, table, labels of the rows in it.
CLOSING = (
  ("preferred over {}, training labelers", "preference",
   {"labelers": "training"}),
  ("preferred over {}, held-out labelers", "preference",
   {"labelers": "held_out"}),
  ("preferred over {}, reward model", "score_wins", {}),
  ("Likert, 1 to 7", "likert", {}),
  ("follows the constraint", "metadata", {"flag": "satisfies_constraint"}),
  ("hallucinates, closed domain", "hallucination", {"prompts": "all"}),
  ("truthful and informative", "truthfulness",
   {"prompt": "qa", "measure": "truthful_informative"}),
  ("toxic, asked for respect", "toxicity", {"prompt": "respectful"}),
  ("tasks, mean exact match", "nlp", {"task": "mean"}),
  ("reward model's score", "score", {}),
  ("KL from {}, nats", "kl", {}),
  ("loss of demonstrations", "loss", {}),
  ("tokens a response", "length", {"measure": "length"}),
)  # fmt: skip

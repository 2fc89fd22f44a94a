"""Scores samples against references, whoever made them, and who is preferred.

`spans` has the official F1 and exact match of SQuAD 2.0 and DROP, `texts` BLEU
and ROUGE-L, `tasks` what each task reads and measures, by name, and `samples`
reads files and groups their rows.

`comparisons` makes tables of who won against whom, `rankings` and `judgments`
read what people said of answers, and `model_judge` asks a model that stands
behind an `endpoint`.
"""

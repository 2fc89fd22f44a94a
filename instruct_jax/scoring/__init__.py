"""Scores samples against references, whoever made them.

`spans` has the official F1 and exact match of SQuAD 2.0 and DROP, `texts` BLEU
and ROUGE-L, `tasks` what each task reads and measures, by name, and `samples`
reads files and groups their rows.
"""

"""What is wrong with a run, in words: findings, one file a group."""

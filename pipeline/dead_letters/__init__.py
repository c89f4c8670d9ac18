"""What could not go on, whole, with the reason and the place where it was read.

letters.py    pure: what a letter is, its key, its bytes
writer.py     the port that parts write to: S3, and memory for tests
office.py     reading: list, show, redrive
commands.py   `spillway dlq`
"""

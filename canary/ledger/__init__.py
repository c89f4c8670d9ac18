"""The ledger: every acknowledged event, accounted for by identity, window by window.

books.py   what is known of one window
judge.py   the verdict on it, and the hop to blame; pure
README.md the process that keeps it, and its files
"""

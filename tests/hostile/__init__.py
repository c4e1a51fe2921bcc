"""Calls that go wrong on purpose: every method with every wrong argument, and objects that lie.

Cases are enumerated from the objects themselves, so a method that is added to the loop or to a
transport is called without an entry here. Cases run in child processes: one that
dies or hangs names its case (see `children.py`).

    python -m hostile --group arguments --only 'stream.write('   # one case, with its outcome
"""

"""Random programs: made from a seed, run on this loop and, where it is decided, on asyncio's.

Two kinds. *Chaos* uses everything at any moment (threads, signals, forks, destructors that use
the loop, a loop that closes in the middle): it may end in any way but a crash, a hang, an internal
error or a descriptor left open. *Decided* programs leave nothing to chance, so both loops must
see the same events.

    PYTHONPATH=tests python -m random_programs --seeds 0-2000            # both kinds
    PYTHONPATH=tests python -m random_programs --kind chaos --minutes 30 --seeds 100000-
    PYTHONPATH=tests python -m random_programs --kind chaos --seeds 123 --shrink
"""

"""The command line: more seeds than a test run has time for."""

from __future__ import annotations

import argparse
import time

from random_programs import runs, worker


def main():
    parser = argparse.ArgumentParser(prog="python -m random_programs")
    parser.add_argument("--kind", choices=("chaos", "decided"), action="append")
    parser.add_argument("--loop", default="tokioloop")
    parser.add_argument("--seeds", default="0-2000", help="N, A-B, or A- with --minutes")
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--times", type=int, default=2, help="runs of a program while shrinking")
    parser.add_argument("--show", action="store_true", help="print the programs only")
    options = parser.parse_args()
    first, dash, last = options.seeds.partition("-")
    first = int(first)
    last = int(last) if last else (first + 10**9 if dash else first + 1)
    bad = 0
    for kind in options.kind or ("decided", "chaos"):
        if options.show:
            for seed, program in worker.programs_of(kind, range(first, last)):
                print(seed, program)
            continue
        start = time.monotonic()
        faults, count = runs.run(
            kind,
            options.loop,
            first,
            last,
            options.minutes * 60,
            lambda seed, fault, kind=kind: print(f"{kind} {seed}: {fault}", flush=True),
        )
        print(f"{kind}: {count} programs, {time.monotonic() - start:.0f} s, {len(faults)} failed")
        if runs.UNDECIDED:
            print(f"left to chance: {runs.UNDECIDED}")
        bad += len(faults)
        for seed in faults if options.shrink else ():
            ((_, program),) = worker.programs_of(kind, [seed])
            smaller = runs.shrunk(kind, options.loop, program, options.times)
            print(f"{kind} {seed}, smaller: {smaller and runs.script(kind, options.loop, smaller)}")
    raise SystemExit(bad > 0)


main()

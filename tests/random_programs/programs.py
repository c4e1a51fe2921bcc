"""Programs as data: what a seed makes, and how one that fails is made smaller."""

from __future__ import annotations

import random
from typing import NamedTuple


class Step(NamedTuple):
    """One operation: its name, three numbers it draws its choices from, what its callbacks do."""

    name: str
    a: int = 0
    b: int = 0
    c: int = 0
    then: tuple[Step, ...] = ()

    def __repr__(self):
        shown = [repr(self.name), *map(repr, (self.a, self.b, self.c))]
        while len(shown) > 1 and shown[-1] == "0":
            shown.pop()
        if self.then:
            shown.append(f"then={self.then!r}")
        return f"Step({', '.join(shown)})"


class Program(NamedTuple):
    flags: tuple[str, ...]
    steps: tuple[Step, ...]


def generate(seed, names, flags, longest=24, deepest=3):
    """The program of a seed. ``names``: operations with their weights."""
    choose = random.Random(seed)
    pool, weights = list(names), list(names.values())
    # Each program knows few operations: with all of them, those that belong together rarely meet.
    favourites = [0.0] * len(pool)
    for place in choose.choices(range(len(pool)), weights, k=choose.choice((2, 4, 6, 10, 40))):
        favourites[place] += choose.choice((1, 1, 4))

    def steps(most, depth):
        return tuple(step(depth) for _ in range(choose.randint(0 if depth else 4, most)))

    def step(depth):
        name = choose.choices(pool, favourites)[0]
        numbers = [choose.randrange(1000) for _ in range(3)]
        then = steps(4, depth + 1) if depth < deepest else ()
        return Step(name, *numbers, then)

    chosen = tuple(flag for flag in flags if choose.random() < flags[flag])
    return Program(chosen, steps(longest, 0))


def smaller(program):
    """Programs with something taken away, the boldest cuts first."""
    steps = program.steps
    size = len(steps)
    width = size // 2
    while width >= 1:
        for start in range(0, size, width):
            yield program._replace(steps=steps[:start] + steps[start + width :])
        width //= 2
    for flag in program.flags:
        yield program._replace(flags=tuple(each for each in program.flags if each != flag))
    for place, step in enumerate(steps):
        for simpler in smaller_step(step):
            yield program._replace(steps=steps[:place] + simpler + steps[place + 1 :])


def smaller_step(step):
    if step.then:
        yield (step._replace(then=()),)
        yield step.then
        for place, inner in enumerate(step.then):
            yield (step._replace(then=step.then[:place] + step.then[place + 1 :]),)
            for simpler in smaller_step(inner):
                yield (step._replace(then=step.then[:place] + simpler + step.then[place + 1 :]),)
    for field in "abc":
        if getattr(step, field):
            yield (step._replace(**{field: 0}),)


def shrink(program, fails, attempts=400):
    """The smallest program found that still fails."""
    tried = 0
    while tried < attempts:
        for candidate in smaller(program):
            tried += 1
            if fails(candidate):
                program = candidate
                break
            if tried >= attempts:
                break
        else:
            return program
    return program

"""Loops in many threads, forks, sub-interpreters, and the exit of the interpreter."""

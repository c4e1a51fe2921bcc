"""Runs of a loop inside of its own callbacks, in programs that stop, fork or lack memory there.

Each test is a program of its own. Under ``--loop asyncio`` its loop is asyncio's with
``nest_asyncio2``, whose behaviour is the specification where it has one.
"""

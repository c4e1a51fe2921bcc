"""Servers that are put under load, a module for each kind."""

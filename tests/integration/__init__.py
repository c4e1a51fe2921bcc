"""Clients and servers of the users' own choice, on both loops."""

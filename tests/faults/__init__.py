"""Peers, files and memory that fail."""

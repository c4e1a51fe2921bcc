"""Transports over pipes, terminals and other files."""

"""Transports of byte streams, the connections and servers that make them, and their protocols."""

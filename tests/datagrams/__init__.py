"""Datagram transports."""

"""TLS transports."""

"""The `sock_*` methods and the resolution of names."""

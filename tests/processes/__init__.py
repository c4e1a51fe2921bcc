"""Child processes and their transports."""

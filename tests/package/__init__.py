"""What the Python package offers: its public API, command line, examples and documentation."""

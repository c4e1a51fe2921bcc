"""What the Python package offers: its public API, its command line, its examples."""

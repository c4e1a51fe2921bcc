"""What the package offers to the tests of its users: virtual time and the pytest plugin."""

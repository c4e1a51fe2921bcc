"""What ``python -m tokioloop`` does besides running a program on the loop."""

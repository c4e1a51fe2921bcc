"""`StreamReader` and `StreamWriter` on the transports of the loop."""

"""`add_reader` and `add_writer`: descriptors that the loop watches for the program."""

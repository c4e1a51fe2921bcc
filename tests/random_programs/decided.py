NAMES = {}
FLAGS = ()
SIZE = (10, 2)

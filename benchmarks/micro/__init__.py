"""Operations of a loop that are timed, a module for each kind."""

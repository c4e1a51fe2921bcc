"""What a unit costs as there are more of them: timers, callbacks, connections, children."""

"""The loop itself: scheduling, timers, handles, its lifecycle, signals, executors, tasks."""

"""tokioloop's own `sleep`, `gather`, `create_task` and `run_coroutine_threadsafe`."""

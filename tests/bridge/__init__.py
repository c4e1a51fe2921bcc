"""Rust futures awaited by Python, and Python awaitables awaited by Rust."""

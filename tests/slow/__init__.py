"""Tests that count descriptors and memory over many thousand operations."""

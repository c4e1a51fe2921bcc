"""The rows of docs/compatibility.md, each observed on both loops."""

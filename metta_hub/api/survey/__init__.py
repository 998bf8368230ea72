"""The steps of `scan`: walk → group → look → judge → total. None of them holds all files at a time."""

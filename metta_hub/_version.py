"""The version of metta_hub, in one place."""

__version__ = "0.1.0"

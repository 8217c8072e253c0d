"""A double of verifiers 0.4: as much of its source as env=verifiers touches, with its names, its order and its errors."""

__version__ = "0.4.0"

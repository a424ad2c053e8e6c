"""What Leyden costs beside floors measured in the same run: ``python -m benchmarks``, see ``--help``."""

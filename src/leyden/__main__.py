"""``python -m leyden`` is the command ``leyden``."""

from leyden.cli import main

if __name__ == "__main__":
    main()

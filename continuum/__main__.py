"""`python -m continuum`."""

from continuum_lm import main

__all__ = ["main"]

if __name__ == "__main__":
    main()

"""`python -m continuum`."""

from continuum.continuum_lm import main

__all__ = ["main"]

if __name__ == "__main__":
    main()

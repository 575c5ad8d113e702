"""`python -m medalion` is the command `medalion`."""

from medalion.cli import main

if __name__ == "__main__":
    main()

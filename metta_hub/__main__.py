"""`python -m metta_hub`: the command line."""

from metta_hub.cli import main

if __name__ == "__main__":
    main()

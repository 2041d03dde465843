"""`python -m hf_smalldata`, and what `accelerate launch -m hf_smalldata` starts."""

from hf_smalldata.cli import main

if __name__ == "__main__":
    main()

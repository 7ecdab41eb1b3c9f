"""``python -m numbaglm``: the command line."""

from numbaglm.faces.cli.main import main

if __name__ == "__main__":
    main()

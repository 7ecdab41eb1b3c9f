"""``python -m numbaglm``: the command line."""

from numbaglm.faces.commands import main

if __name__ == "__main__":
    main()

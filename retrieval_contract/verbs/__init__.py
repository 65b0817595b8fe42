"""What `python -m STACK.VERB` does, once for both stacks: each verb is handed the stack and the command line."""

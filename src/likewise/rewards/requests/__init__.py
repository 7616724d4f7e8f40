"""What rewards that ask somebody over the network share. Does not import torch.

- `background`: an event loop in a thread; `waiting`: how long until the next try;
- `keys`: keys and tokens, from the environment only, and out of all messages.
"""

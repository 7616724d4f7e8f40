"""A vision-language model as judge, behind an OpenAI-compatible endpoint. Does not import torch.

- `question`: what is asked, as a chat request, and the key under which its answer is kept;
- `verdict`: the one form of answer that counts;
- `keys`: API keys, from the environment only, and out of all messages;
- `endpoint`: one request; `waiting`: how long until the next; `exchange`: requests until it works;
- `cache`: verdicts on the disk; `counts`: requests, tokens, cost; `background`: an event loop;
- `judge`: all of it behind one call; `errors`: why there is no verdict.
"""

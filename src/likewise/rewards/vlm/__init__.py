"""A vision-language model as judge, behind an OpenAI-compatible endpoint. Does not import torch.

- `question`: what is asked, as a chat request, and the key under which its answer is kept;
- `verdict`: the one form of answer that counts;
- `endpoint`: one request; `attempts`: requests until it works;
- `verdict_cache`: verdicts on the disk;
- `outcomes`: why there is no verdict; requests, tokens, cost;
- `judge`: all of it behind one call.
"""

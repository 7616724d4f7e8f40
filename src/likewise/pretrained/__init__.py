"""Pretrained models, read by libraries and trusted by nobody.

Everything that policies, rewards and evaluators load goes through here: only safetensors are read,
every weight has to be there and finite, no code of a model is ever run, and whatever goes wrong
ends in one line that names the folder or file.
"""

"""How much memory a policy needs in training, worked out without its weights and without a GPU."""

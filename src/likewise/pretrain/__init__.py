"""Training of the shipped nano models, each rebuilt by one `likewise pretrain …` command."""

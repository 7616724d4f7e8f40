"""One denoiser spread over processes (FSDP2): parameters, gradients and optimiser state in shards."""

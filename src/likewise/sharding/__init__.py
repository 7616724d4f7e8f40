"""One denoiser spread over processes by FSDP2: weights, gradients and optimiser in shards."""

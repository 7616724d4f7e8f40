"""What the policy on Qwen-Image-Edit needs beside the pipeline."""

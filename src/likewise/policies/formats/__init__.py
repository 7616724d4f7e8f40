"""LoRAs for other programs: name tables by family, files, and the check that they read back.

Pure functions on LoRA tensors, but for `exporting`, which reads a file back into its model.
"""

"""Where tasks come from: the embedded sticker world, and custom datasets."""

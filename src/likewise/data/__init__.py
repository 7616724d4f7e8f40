"""Where tasks come from: the embedded sticker world, and people's own folders."""

"""What rewards on encoders share: images to pixels, embeddings, cosines."""

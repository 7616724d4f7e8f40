"""What rewards on encoders share: pictures to pixels, embeddings, cosines."""

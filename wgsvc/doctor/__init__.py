"""What keeps a tunnel from working here, one file a subject; `findings` asks them all."""

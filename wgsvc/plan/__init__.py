"""What a start, stop or reload does, as steps. Pure."""

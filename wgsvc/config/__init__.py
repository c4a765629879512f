"""Configuration files in wg-quick's format: bytes in, a frozen Tunnel or diagnostics out. Pure."""

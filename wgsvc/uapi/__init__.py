"""The cross-platform control protocol of wireguard-go: transport, encoder, parser."""

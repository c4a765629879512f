"""The site-to-site network of five hosts."""

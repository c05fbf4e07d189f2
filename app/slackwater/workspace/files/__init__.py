"""Files of threads: what users upload, and what runs leave for them."""

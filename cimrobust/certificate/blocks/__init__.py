"""One file for each group of blocks of the certificate."""

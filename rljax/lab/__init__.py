"""Things to play with, on a page in the browser; needs the extra `lab`."""

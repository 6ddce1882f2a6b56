"""What the end-to-end tests share: a server under test, a strict HTTP client, a look into processes."""

"""Everything short of uploading: `make release-check`."""
